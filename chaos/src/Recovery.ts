/**
 * Recovery of the services after faults: which of them took too long, or never came.
 */
import * as Duration from "effect/Duration"
import * as Availability from "./Availability.ts"
import { timeTolerance } from "./CallDeadlines.ts"
import { deadlines } from "./deadlines.ts"
import * as Disturbances from "./Disturbances.ts"
import type { Kind } from "./Fault.ts"
import type { Round } from "./Round.ts"
import * as Span from "./Span.ts"
import { isResidentKey } from "./work/leases.ts"

/** The recoveries that took too long or did not happen, as messages. */
export const find = (round: Round): ReadonlyArray<string> => [
  ...slowRecoveries(round),
  ...missingRecoveries(round),
  ...longSilences(round)
]

/** How soon after a fault every service must be back, in milliseconds. */
const recoversWithin = 5000

/**
 * The same for a lock. etcd silently drops requests in flight to a leader that crashes, and a statement on a connection to
 * Postgres that went silent is not repeated elsewhere. So a waiter repeats its request only after its deadline. After an
 * outage of all servers there was none in flight.
 */
const lockRecoversWithin = (kind: Kind): number =>
  kind === "outage" ? recoversWithin : Duration.toMillis(deadlines[0]!) + timeTolerance + recoversWithin

const slowRecoveries = ({ appliedFaults, eventLoopStalls, history }: Round): ReadonlyArray<string> =>
  [...Availability.outages(history, appliedFaults, isResidentKey, Span.merge(eventLoopStalls))].flatMap((
    [kind, outage]
  ) =>
    Availability.services.flatMap((service) => {
      const after = outage[service] ?? 0
      const limit = service === "lock" ? lockRecoversWithin(kind) : recoversWithin
      return after <= limit ? [] : [`the first ${service} came ${(after / 1000).toFixed(1)} s after ${kind}`]
    })
  )

/** After an outage of all members every service must return: all leases have expired by then. */
const missingRecoveries = ({ history, appliedFaults }: Round): ReadonlyArray<string> => {
  const long = appliedFaults.filter(({ fault }) => fault.kind === "outage" && fault.millis >= 5000)
  return long.flatMap((outage) => {
    const after = Availability.outages(history, [outage], isResidentKey).get("outage")
    return Availability.services.flatMap((service) =>
      after?.[service] === undefined ? [`no ${service} came after an outage of ${outage.fault.millis / 1000} s`] : []
    )
  })
}

/** The same if the next fault started before the service was back: only the undisturbed time counts. */
const longSilences = (round: Round): ReadonlyArray<string> =>
  [...Disturbances.silences(round)].flatMap(([what, { millis, service }]) =>
    millis <= (service === "lock" ? lockRecoversWithin("kill-leader") : recoversWithin)
      ? []
      : [`there was no ${what} for ${(millis / 1000).toFixed(1)} undisturbed seconds`]
  )
