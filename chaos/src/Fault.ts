/**
 * Faults as data: what is broken, where, and for how long. `faults/` applies them.
 */

/** A backend that has servers. */
export type Backend = "etcd" | "postgres"

/** Faults of the servers of etcd. */
const etcdServerKinds = [
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

/** Faults of the server of Postgres. */
const postgresServerKinds = [
  "kill-postmaster",
  "kill-backend",
  "outage",
  "stop-fast",
  "stop-immediate",
  "pause-server",
  "pause-backends",
  "terminate-backends",
  "cancel-statements",
  "lock-store",
  "compact",
  "vacuum"
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
  "lose-responses",
  "half-open",
  "partition"
] as const

/** Faults of the clients themselves and of their leases. */
export const clientKinds = ["stall", "evict"] as const

/** A kind of fault. */
export type Kind =
  | typeof etcdServerKinds[number]
  | typeof postgresServerKinds[number]
  | typeof linkKinds[number]
  | typeof clientKinds[number]

/** Every kind of fault of each backend. */
export const kindsOf: Readonly<Record<Backend, ReadonlyArray<Kind>>> = {
  etcd: [...etcdServerKinds, ...linkKinds, ...clientKinds],
  postgres: [...postgresServerKinds, ...linkKinds, ...clientKinds]
}

/** One fault. Each kind ignores the fields that it does not need. */
export interface Fault {
  readonly kind: Kind
  /** The minimum duration in milliseconds. */
  readonly millis: number
  /** The index of the member of etcd. */
  readonly slot: number
  /** The indexes of the clients. */
  readonly clients: ReadonlyArray<number>
  /** For links: all of a client's links, or only the link in use (the one to `slot` if none is in use). */
  readonly everyMember: boolean
  /** Milliseconds of delay, bytes per second, or how many connections. */
  readonly amount: number
}

/** Faults that start together. */
export interface Entry {
  /** When they start, in milliseconds from the start of the load. */
  readonly at: number
  readonly faults: ReadonlyArray<Fault>
}

/** How many connections a fault strikes at a time. */
export const connectionsOf = ({ amount }: Fault): number => 1 + amount % 6

/** A short description for the progress output. */
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
    case "vacuum":
    case "evict":
      return fault.kind
    case "compact":
      return `compact, while ${links} is away`
    case "kill-leader":
    case "kill-majority":
    case "outage":
    case "pause-leader":
    case "kill-postmaster":
    case "kill-backend":
    case "stop-fast":
    case "stop-immediate":
    case "pause-server":
    case "lock-store":
    case "stall":
      return `${fault.kind}, ${seconds}`
    case "pause-backends":
    case "terminate-backends":
    case "cancel-statements":
      return `${fault.kind}, ${connectionsOf(fault)} at a time, ${seconds}`
    case "delay":
      return `delay ${where} by ${fault.amount} ms, ${seconds}`
    case "throttle":
      return `throttle ${where} to ${fault.amount} bytes/s, ${seconds}`
    default:
      return `${fault.kind} ${where}, ${seconds}`
  }
}
