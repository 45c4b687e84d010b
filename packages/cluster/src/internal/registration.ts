/**
 * The registration of runners: who takes part in the cluster, and the machine id of each.
 */
import * as Compare from "@effect-kv/core/Compare"
import type { Entry } from "@effect-kv/core/Entry"
import * as Fence from "@effect-kv/core/Fence"
import { execute } from "@effect-kv/core/KvBackend"
import type * as KvError from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { ChangedRunners } from "./changedRunners.ts"
import type { Cluster } from "./cluster.ts"
import * as heldLease from "./heldLease.ts"
import type { HeldLease } from "./heldLease.ts"
import type { Runner } from "./runner.ts"

/** The value of a registration. */
const Registration = Schema.fromJsonString(Schema.Struct({
  /** The runner as Effect Cluster encodes it. */
  runner: Schema.String,
  healthy: Schema.Boolean,
  machineId: Schema.Int
}))

type Registration = typeof Registration.Type

const encode = Schema.encodeSync(Registration)
const decode = Schema.decodeOption(Registration)

/** The registration in an entry; `none` if the value is not one. */
const of = (entry: Entry): Option.Option<Registration> => decode(entry.lossyText)

/** The registrations in entries, and how a read that failed is noted. */
export interface Reader {
  readonly read: (entries: ReadonlyArray<Entry>) => Effect.Effect<ReadonlyArray<Registration>>
  readonly failed: Effect.Effect<void>
}

/**
 * Reads registrations. One that cannot be decoded is left out, with a warning for each time it was written: a key that
 * something else has put there must not stop the whole cluster.
 *
 * A runner that has another weight or other groups than before is left out for a while, for the sake of `Sharding`.
 */
export const reader = (cluster: Cluster): Reader => {
  const warned = new Map<string, bigint>()
  const changed = new ChangedRunners(cluster)
  return {
    read: (entries) =>
      Effect.map(
        Effect.forEach(entries, (entry) => {
          const registration = of(entry)
          if (Option.isSome(registration) || warned.get(entry.key) === entry.modRevision) {
            return Effect.succeed(Option.toArray(Option.map(registration, (each) => [entry.key, each] as const)))
          }
          warned.set(entry.key, entry.modRevision)
          return Effect.as(
            Effect.logWarning("effect-kv: a registration of a runner cannot be decoded and is left out").pipe(
              Effect.annotateLogs({ key: entry.key })
            ),
            []
          )
        }),
        (registrations) => changed.withoutThem(Arr.flatten(registrations))
      ),
    failed: Effect.sync(() => changed.readFailed())
  }
}

/** Only the lowest ten bits of a machine id are part of a Snowflake, and 0 is never given out. */
export const machineIds = 1023

/**
 * Every machine id is taken.
 */
export class MachineIdsTaken extends Schema.Error<MachineIdsTaken>("@effect-kv/cluster/MachineIdsTaken")({
  _tag: Schema.tag("MachineIdsTaken")
}) {
  override get message(): string {
    return `all ${machineIds} machine ids are taken: a cluster has at most ${machineIds} runners`
  }
}

/**
 * A later process has registered at the address of this one.
 */
export class AddressTaken extends Schema.Error<AddressTaken>("@effect-kv/cluster/AddressTaken")({
  _tag: Schema.tag("AddressTaken"),
  address: Schema.String
}) {
  override get message(): string {
    return `another process has registered at ${this.address} after this one: end this process, ` +
      "or give each runner an address of its own"
  }
}

/** Registers the runner, or writes its registration again. Returns its machine id. */
export const register = (
  cluster: Cluster,
  runner: Runner,
  encoded: string,
  healthy: boolean
): Effect.Effect<number, KvError.KvError | MachineIdsTaken | AddressTaken> =>
  Effect.gen(function*() {
    for (let choices = 1;; choices = mostChoices) {
      const lease = yield* runner.presenceLease(cluster)
      if (runner.succeededWith !== lease) {
        yield* endPredecessors(cluster, runner, lease)
        runner.succeededWith = lease
      }
      const machineId = yield* attempt(cluster, runner, lease, { encoded, healthy, choices }).pipe(
        Effect.catchIf(heldLease.isGone, () =>
          Effect.sync((): undefined => {
            runner.forgetPresence(lease)
          }))
      )
      if (machineId === undefined) continue
      runner.isTaken = false
      return machineId
    }
  }).pipe(Effect.tapErrorTag("AddressTaken", (error) => warnOnce(runner, error)))

/** `Sharding` logs why it could not register at the level of debugging only, and tries again each second. */
const warnOnce = (runner: Runner, { message }: AddressTaken): Effect.Effect<void> =>
  Effect.suspend(() => {
    if (runner.isTaken) return Effect.void
    runner.isTaken = true
    return Effect.logWarning(`effect-kv: ${message}`)
  })

/** One attempt; `undefined` if another client has written in between. */
const attempt = Effect.fnUntraced(function*(
  { keys, store }: Cluster,
  runner: Runner,
  lease: HeldLease,
  { choices, encoded, healthy }: { readonly encoded: string; readonly healthy: boolean; readonly choices: number }
): Effect.fn.Return<number | undefined, KvError.KvError | MachineIdsTaken | AddressTaken> {
  const key = keys.runner(runner.address)
  const read = yield* execute(
    store,
    Op.txn({ then: [Op.get(key), Op.range(keys.machines, { keysOnly: true }), Op.get(keys.lastMachine)] })
  )
  if (!read.succeeded) return undefined
  const [{ entries: [current] }, { entries: machines }, { entries: [last] }] = read.responses
  const taken = new Map(machines.map((entry) => [keys.machineOf(entry.key), entry.modRevision]))
  const registered = current === undefined ? undefined : Option.getOrUndefined(of(current))
  yield* failIfTaken(runner, lease, current)
  // Not the id of an earlier process at this address: that process may be frozen, and still generate ids with it.
  const previous = (isOwn(runner, lease, current) ? registered?.machineId : undefined) ??
    (runner.machineId !== undefined && !taken.has(runner.machineId) ? runner.machineId : undefined)
  const candidates = previous === undefined ? yield* freeMachines(taken, lastMachine(last), choices) : [previous]
  const registerAs = (machineId: number): ReadonlyArray<Op.Op> => [
    Op.put(key, encode({ runner: encoded, healthy, machineId }), { lease: lease.id }),
    Op.put(keys.machine(machineId), runner.address, { lease: lease.id }),
    ...(previous === undefined ? [Op.put(keys.lastMachine, `${machineId}`)] : [])
  ]
  const written = yield* execute(
    store,
    Op.txn({
      if: [Compare.modRevision(key, "=", current?.modRevision ?? 0n)],
      then: firstUnchanged(
        candidates.map((id) => ({
          condition: Compare.modRevision(keys.machine(id), "=", taken.get(id) ?? 0n),
          then: registerAs(id)
        }))
      )
    })
  )
  const machineId = candidates[chosen(written)]
  if (machineId === undefined) return undefined
  runner.machineId = machineId
  if (runner.presence === lease) runner.registeredAt = written.revision
  return machineId
})

/**
 * Fails if another process has registered after this one: it has the address. If the earlier process took it back, they
 * would take it from each other forever.
 */
const failIfTaken = (
  runner: Runner,
  lease: HeldLease,
  registered: Entry | undefined
): Effect.Effect<void, AddressTaken> =>
  runner.machineId !== undefined && registered !== undefined && Option.isSome(of(registered)) &&
    Option.isSome(registered.lease) && !isOwn(runner, lease, registered)
    ? Effect.fail(new AddressTaken({ address: runner.address }))
    : Effect.void

/** Whether this process wrote the registration. */
const isOwn = (runner: Runner, lease: HeldLease, registered: Entry | undefined): boolean =>
  registered !== undefined &&
  Option.exists(registered.lease, (id) => id === lease.id || runner.condemnedPresences.has(id))

/** The id that was given out last; 0 if there is none, or if something else has written the key. */
const lastMachine = (entry: Entry | undefined): number => {
  const id = Number(entry?.lossyText ?? "0")
  return Number.isSafeInteger(id) && id > 0 ? id : 0
}

/** One of several choices of a transaction. */
interface Choice {
  readonly condition: Compare.Compare
  readonly then: ReadonlyArray<Op.Op>
}

/** Executes the first choice whose condition holds: each of the others is in the `else` of the one before. */
const firstUnchanged = ([first, ...others]: ReadonlyArray<Choice>): ReadonlyArray<Op.Op> =>
  first === undefined ? [] : [Op.txn({ if: [first.condition], then: first.then, else: firstUnchanged(others) })]

/** The index of the choice that was executed; -1 if none was. */
const chosen = (written: Op.TxnResponse): number => {
  if (!written.succeeded) return -1
  let index = 0
  for (let [choice] = written.responses; choice?._tag === "Txn"; [choice] = choice.responses) {
    if (choice.succeeded) return index
    index++
  }
  return -1
}

/**
 * How many ids a transaction chooses among after a conflict. Each takes three operations of etcd's limit, which counts
 * the longest list at each depth: 128.
 */
const mostChoices = 32

/**
 * The next free ids after the one that was given out last: an id is used again as late as possible, because its last
 * holder may be a runner that was frozen and still generates ids with it.
 *
 * Of many runners that start together, each would lose the first free id to every other. So after a conflict the store
 * gives it the first that is free then: all of them have one after two attempts, and no id is left out.
 */
const freeMachines = Effect.fnUntraced(function*(
  taken: ReadonlyMap<number, unknown>,
  last: number,
  choices: number
): Effect.fn.Return<ReadonlyArray<number>, MachineIdsTaken> {
  const free = Array.from({ length: machineIds }, (_, index) => (last + index) % machineIds + 1)
    .filter((id) => !taken.has(id))
  if (free.length === 0) return yield* new MachineIdsTaken()
  return free.slice(0, choices)
})

/**
 * Ends the shard leases of an earlier process at this address. A process that is restarted would otherwise wait until
 * they expire, with every crash.
 */
const endPredecessors = Effect.fnUntraced(function*(
  cluster: Cluster,
  runner: Runner,
  lease: HeldLease
): Effect.fn.Return<void, KvError.KvError | AddressTaken> {
  const { keys, store } = cluster
  const read = yield* execute(store, Op.txn({ then: [Op.get(keys.runner(runner.address)), Op.range(keys.locks)] }))
  if (!read.succeeded) return
  const [{ entries: [registered] }, { entries }] = read.responses
  yield* failIfTaken(runner, lease, registered)
  const leases = new Set(
    entries.flatMap(({ lease, lossyText }) => lossyText === runner.address ? Option.toArray(lease) : [])
  )
  if (runner.shards !== undefined) leases.delete(runner.shards.id)
  yield* Effect.forEach(leases, (id) => heldLease.revoke(cluster, id), { concurrency: "unbounded", discard: true })
})

/**
 * Ends the registration of this process, or, if this process never registered, the key, whichever process wrote it.
 *
 * The lease is given up now, before the effect runs: if its end fails, nothing renews it, and it ends by itself.
 */
export const unregister = (cluster: Cluster, runner: Runner): Effect.Effect<void, KvError.KvError> => {
  if (runner.presence !== undefined) runner.condemnPresence(runner.presence)
  if (runner.machineId === undefined && runner.condemnedPresences.size === 0) {
    return Effect.asVoid(execute(cluster.store, Op.delete(cluster.keys.runner(runner.address))))
  }
  // If it has lost its registration, the key belongs to a later process at the same address.
  return heldLease.revokeAll(cluster, runner.condemnedPresences)
}

/**
 * Another runner calls this, so the registration keeps its lease, and is not written if it is gone: it would then have no
 * lease, and stay.
 */
export const setHealth = (
  { keys, kv }: Cluster,
  address: string,
  healthy: boolean
): Effect.Effect<void, KvError.KvError> =>
  kv.modifySome(keys.runner(address), (text) =>
    Option.flatMap(text, decode).pipe(
      Option.filter((registration) => registration.healthy !== healthy),
      Option.map((registration) => encode({ ...registration, healthy }))
    )).pipe(Fence.unfenced, Effect.asVoid)
