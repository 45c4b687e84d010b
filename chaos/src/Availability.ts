/**
 * Outages as clients see them: how long a service was missing, by kind of fault.
 */
import * as Op from "@effect-kv/core/Op"
import { History } from "@effect-kv/test-suite/verification"
import type { AppliedFault } from "./AppliedFault.ts"
import type { Kind } from "./Fault.ts"
import * as Span from "./Span.ts"

/** The services that return after a fault. */
export const services = ["response", "lock", "event", "temporaryKey"] as const

/** A response, an acquired lock, an event of a watch, or a lost temporary key that is put again. */
export type Service = typeof services[number]

/** Of one kind of fault, in milliseconds. A service that was not observed is absent. */
export interface Outage extends Partial<Readonly<Record<Service, number>>> {
  /**
   * The longest time without any response that a client saw, from the start of a fault to the first response after its
   * end.
   */
  readonly longest: number
}

/**
 * The longest outage of each service by kind of fault. If another fault starts before a service returns, the
 * measurement is dropped, because it says nothing about the first fault. The time until a service returned is that without
 * the given stalls, which do not overlap.
 */
export const outages = (
  history: History.History,
  appliedFaults: ReadonlyArray<AppliedFault>,
  isTemporaryKey: (key: string) => boolean,
  stalls: ReadonlyArray<Span.Span> = []
): ReadonlyMap<Kind, Outage> => {
  const responses = byClient(
    history.calls.filter(hasResponse).map(({ client, completed }) => [client, completed!.nanos])
  )
  const signs: Record<Service, ReadonlyArray<ReadonlyArray<bigint>>> = {
    response: responses,
    lock: [ascending(history.holdings.map((holding) => holding.acquired.nanos))],
    event: byClient(history.watches.flatMap(({ batches, client }) => batches.map(({ at }) => [client, at.nanos]))),
    temporaryKey: byClient(
      history.calls.filter((call) => hasResponse(call) && isPutOf(call, isTemporaryKey)).map(
        ({ client, completed }) => [client, completed!.nanos]
      )
    )
  }
  const outages = new Map<Kind, Outage>()
  for (const one of appliedFaults) {
    const others = appliedFaults.filter((other) => other !== one)
    const before = outages.get(one.fault.kind)
    const longest = Math.max(before?.longest ?? 0, ...responses.map((times) => longestGap(times, one)))
    const came = services.flatMap((service) => {
      if (service === "temporaryKey" && !losesSessions(one)) return []
      const seen = signs[service].flatMap((times) => firstAfter(times, one.healed, others, stalls))
      const all = before?.[service] === undefined ? seen : [...seen, before[service]]
      return all.length === 0 ? [] : [[service, Math.max(...all)]]
    })
    outages.set(one.fault.kind, { longest, ...Object.fromEntries(came) })
  }
  return outages
}

/** Whether every session expires during the fault. Otherwise no temporary key has to be put again. */
const losesSessions = ({ fault }: AppliedFault): boolean => fault.kind === "outage" && fault.millis >= 2000

/** Whether the call got a response that required a quorum. */
export const hasResponse = (call: History.Call): boolean =>
  call.outcome._tag === "Responded" && History.isOpCall(call) &&
  !(call.request.op._tag === "Range" && call.request.op.serializable === true)

/**
 * Whether a successful call put such a key, either directly or in a transaction, which is how temporary keys are
 * created.
 */
export const isPutOf = (call: History.Call, isMeant: (key: string) => boolean): boolean => {
  if (!History.isOpCall(call) || call.outcome._tag !== "Responded") return false
  const { response } = call.outcome
  const puts = (op: Op.Op): boolean => op._tag === "Put" ? isMeant(op.key) : op._tag === "Txn" && op.then.some(puts)
  const { op } = call.request
  return op._tag === "Txn" ? response._tag === "Txn" && response.succeeded && op.then.some(puts) : puts(op)
}

const ascending = (times: Array<bigint>): ReadonlyArray<bigint> => times.sort((a, b) => a < b ? -1 : a > b ? 1 : 0)

const byClient = (
  times: ReadonlyArray<readonly [client: string, time: bigint]>
): ReadonlyArray<ReadonlyArray<bigint>> =>
  [...Map.groupBy(times, ([client]) => client).values()].map((ofClient) => ascending(ofClient.map(([, time]) => time)))

/** The index of the first time that is later. */
const placeAfter = (times: ReadonlyArray<bigint>, time: bigint): number => {
  let low = 0
  let high = times.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (times[middle]! > time) high = middle
    else low = middle + 1
  }
  return low
}

/** The time from the end of a fault to the first sign of a service. Empty if another fault was active in between. */
const firstAfter = (
  times: ReadonlyArray<bigint>,
  healed: bigint,
  others: ReadonlyArray<AppliedFault>,
  stalls: ReadonlyArray<Span.Span>
): ReadonlyArray<number> => {
  const next = times[placeAfter(times, healed)]
  if (next === undefined || others.some((other) => other.began < next && other.ended > healed)) return []
  return [toMillis(next - healed) - Span.covered(stalls, { from: healed, to: next })]
}

const longestGap = (times: ReadonlyArray<bigint>, { began, ended }: AppliedFault): number => {
  let longest = 0
  for (let i = Math.max(1, placeAfter(times, began)); i < times.length; i++) {
    const since = times[i - 1]! > began ? times[i - 1]! : began
    longest = Math.max(longest, toMillis(times[i]! - since))
    if (times[i]! > ended) break
  }
  return longest
}

const toMillis = (nanos: bigint): number => Number(nanos) / 1e6

/** A write of data or of leases whose outcome is unknown. */
export const isUnknownWrite = (call: History.Call): boolean =>
  History.isUnknown(call) && (
    call.request._tag === "LeaseGrant" || call.request._tag === "LeaseRevoke" ||
    History.isOpCall(call) && Op.isWrite(call.request.op)
  )
