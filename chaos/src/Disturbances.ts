/**
 * Disturbances of a client: the times in which a fault or a stall excuses it.
 */
import type { History } from "@effect-kv/test-suite/verification"
import type { AppliedFault } from "./AppliedFault.ts"
import * as Availability from "./Availability.ts"
import { linkKinds } from "./Fault.ts"
import type { Round } from "./Round.ts"
import * as Span from "./Span.ts"
import { isOfShortLivedClient } from "./work/shortLivedClients.ts"
import * as watches from "./work/watches.ts"

/** When faults concerned a client, or any client. */
export const faultsOf = ({ appliedFaults }: Round, client?: string): ReadonlyArray<Span.Span> => {
  const concerns = ({ fault }: AppliedFault): boolean =>
    client === undefined || !(linkKinds as ReadonlyArray<string>).includes(fault.kind) ||
    fault.clients.some((place) => client === `c${place + 1}`)
  return appliedFaults.filter(concerns).map(({ began, ended }) => ({ from: began, to: ended }))
}

/** When faults concerned a client, or any client, or the event loop stalled; merged. */
export const of = (round: Round, client?: string): ReadonlyArray<Span.Span> =>
  Span.merge([...faultsOf(round, client), ...round.eventLoopStalls])

/** How much of a window nothing disturbed, in milliseconds. */
export const undisturbed = (disturbances: ReadonlyArray<Span.Span>, window: Span.Span): number =>
  Span.millis(window) - Span.covered(disturbances, window)

/** The longest undisturbed time that each client and lock went without its service. */
export const silences = (
  round: Round
): ReadonlyMap<string, { readonly service: Availability.Service; readonly millis: number }> => {
  const { history } = round
  const longest = new Map<string, { readonly service: Availability.Service; readonly millis: number }>()
  const listen = (
    service: Availability.Service,
    who: string,
    client: string | undefined,
    signs: ReadonlyArray<bigint>
  ) => {
    const disturbances = of(round, client)
    const times = [round.began, ...signs.filter((at) => at > round.began && at < round.stopped), round.stopped]
      .sort((a, b) => a < b ? -1 : a > b ? 1 : 0)
    const millis = times.slice(1).map((to, i) => undisturbed(disturbances, { from: times[i]!, to }))
    longest.set(`${service} of ${who}`, { service, millis: millis.reduce((a, b) => Math.max(a, b), 0) })
  }
  const responses = Map.groupBy(history.calls.filter(Availability.hasResponse), ({ client }) => client)
  const watched = Map.groupBy(history.watches.filter(isOfWork), (watch) => `${watch.client}, ${rangeOf(watch)}`)
  const holdings = Map.groupBy(history.holdings, ({ lock }) => lock)
  for (const [client, calls] of responses) {
    listen(
      "response",
      client,
      client,
      calls.map(({ completed }) => completed!.nanos)
    )
  }
  for (const [who, all] of watched) {
    listen("event", who, all[0]!.client, all.flatMap(({ batches }) => batches.map(({ at }) => at.nanos)))
  }
  for (const [lock, all] of holdings) listen("lock", lock, undefined, all.map(({ acquired }) => acquired.nanos))
  return longest
}

/** The longest of each service. */
export const longestSilences = (round: Round): ReadonlyMap<Availability.Service, number> => {
  const longest = new Map<Availability.Service, number>()
  for (const { millis, service } of silences(round).values()) {
    longest.set(service, Math.max(longest.get(service) ?? 0, millis))
  }
  return longest
}

/** The workers' own long watches are of keys that change all the time. Those of recipes may wait for long. */
const isOfWork = ({ request }: History.WatchCall): boolean =>
  watches.isOfBusyKeys(request.range) && !isOfShortLivedClient(request)

const rangeOf = ({ request: { only, range } }: History.WatchCall): string =>
  JSON.stringify(only === undefined ? range : { ...range, only })
