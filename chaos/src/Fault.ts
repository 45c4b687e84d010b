/**
 * The faults there are, as data: what is broken, where, and for how long. `faults/` carries them out.
 */

/** Faults of servers. */
export const serverKinds = [
  "kill-member",
  "kill-leader",
  "kill-majority",
  "outage",
  "stop-member",
  "pause-member",
  "pause-leader",
  "move-leader",
  "compact",
  "defragment",
  "replace-member"
] as const

/** Faults of the links between clients and servers. */
export const linkKinds = [
  "cut",
  "cut-before-forwarding",
  "cut-after-forwarding",
  "cut-mid-frame",
  "delay",
  "throttle",
  "blackhole",
  "lose-bytes",
  "lose-answers",
  "half-open",
  "partition"
] as const

/** Faults of the clients themselves, and what happens to their leases. */
export const clientKinds = ["stall", "evict"] as const

/** Every kind of fault. */
export const kinds = [...serverKinds, ...linkKinds, ...clientKinds] as const

/** A kind of fault. */
export type Kind = typeof kinds[number]

/** One fault. What a kind has no use for it does not regard. */
export interface Fault {
  readonly kind: Kind
  /** How long it lasts, in milliseconds, at least. */
  readonly millis: number
  /** Which member: its place among the three. */
  readonly slot: number
  /** Which clients, by their places. */
  readonly clients: ReadonlyArray<number>
  /** On links: to all members, or to the one alone that a client uses (to `slot` where it uses none). */
  readonly everyMember: boolean
  /** How much: milliseconds of delay, or bytes a second. */
  readonly amount: number
}

/** Faults that begin together. */
export interface Entry {
  /** When they begin, in milliseconds from the beginning of the load. */
  readonly at: number
  readonly faults: ReadonlyArray<Fault>
}

/** In a word or two, for the progress of a run. */
export const describe = (fault: Fault): string => {
  const links = fault.clients.map((client) => `c${client + 1}`).join("+")
  const where = fault.everyMember ? links : `${links} on the link in use`
  const seconds = `${(fault.millis / 1000).toFixed(1)} s`
  switch (fault.kind) {
    case "kill-member":
    case "stop-member":
    case "pause-member":
    case "replace-member":
      return `${fault.kind} m${fault.slot + 1}, ${seconds}`
    case "move-leader":
    case "defragment":
    case "evict":
      return fault.kind
    case "compact":
      return `compact, while ${links} is away`
    case "kill-leader":
    case "kill-majority":
    case "outage":
    case "pause-leader":
    case "stall":
      return `${fault.kind}, ${seconds}`
    case "delay":
      return `delay ${where} by ${fault.amount} ms, ${seconds}`
    case "throttle":
      return `throttle ${where} to ${fault.amount} bytes/s, ${seconds}`
    default:
      return `${fault.kind} ${where}, ${seconds}`
  }
}
