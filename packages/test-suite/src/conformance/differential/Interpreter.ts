/**
 * The interpreter of random programs: runs one on a store, and returns outcomes that can be compared between stores.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as KvError from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Op from "@effect-kv/core/Op"
import type * as Watch from "@effect-kv/core/Watch"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { promptly } from "../cases/Case.ts"
import type { Outcome } from "./Names.ts"
import { toOp } from "./operations.ts"
import type * as Program from "./Program.ts"
import { ProgramRun, type Side } from "./ProgramRun.ts"

export type { Side } from "./ProgramRun.ts"

const ownLeaseId = (slot: number): bigint => 7_000_000_000_000_000_001n + BigInt(slot)

const manyPuts = (n: number, prefix: string): ReadonlyArray<Op.Op> =>
  Array.from({ length: n }, (_, i) => Op.put(`${prefix}${i}`, "v"))

/**
 * A transaction that names an unreadable revision and an unknown lease fails for either: etcd 3.6 checks all leases first,
 * 3.7 checks operation by operation.
 */
const isEitherFault = (command: Program.Command, error: KvError.KvError): boolean =>
  command.do === "txn" && faults.has(error.reason._tag) &&
  some(command, (operation) => operation.do === "range" && operation.read.revision !== undefined) &&
  some(command, (operation) => operation.do === "put" && operation.lease !== undefined)

const faults: ReadonlySet<string> = new Set(["LeaseNotFound", "FutureRevision", "Compacted"])

const eitherFault = "LeaseNotFound, FutureRevision or Compacted, NotApplied"

const some = (operation: Program.Operation, holds: (operation: Program.Operation) => boolean): boolean =>
  holds(operation) ||
  operation.do === "txn" && [...operation.then, ...operation.else].some((inner) => some(inner, holds))

const execute = (run: ProgramRun, op: Op.Op): Effect.Effect<Outcome, KvError.KvError> =>
  Effect.map(backendOf(run.side.kv).execute(op), (response) => run.names.response(op, run.saw(response)))

const runCommand = (run: ProgramRun, command: Program.Command): Effect.Effect<Outcome, KvError.KvError> => {
  const { kv } = run.side
  switch (command.do) {
    case "range":
    case "put":
    case "delete":
    case "txn":
      return execute(run, toOp(run, command))
    case "testAndSet":
      return knowLatest(run, kv.testAndSet(command.key, Option.fromUndefinedOr(command.expected), command.value))
    case "compareAndSet":
      return Effect.map(
        kv.compareAndSet(command.key, run.revision(command.revision), command.value),
        (wrote) =>
          Option.match(wrote, {
            onNone: () => "not written",
            onSome: (revision) => run.names.revision(run.saw({ revision }).revision)
          })
      )
    case "modify":
      return knowLatest(
        run,
        kv.modify(command.key, Option.match({ onNone: () => "new", onSome: (text) => `${text.slice(-3)}!` }))
      )
    case "stream":
      return Effect.map(
        Stream.runCollect(
          kv.rangeStream(command.range, {
            pageSize: command.pageSize,
            revision: run.optionalRevision(command.revision)
          })
        ),
        (entries) => entries.map((entry) => run.names.entry(entry))
      )
    case "manyOperations":
      return execute(
        run,
        Op.txn({ then: [...manyPuts(command.outer, "outer"), Op.txn({ then: manyPuts(command.inner, "inner") })] })
      )
    case "grant":
      return grant(run, command.slot, command.ownId)
    case "grantAndRevoke":
      return grantAndRevoke(run, command.seconds)
    case "keepAlive":
      return Effect.map(backendOf(kv).leaseKeepAlive(run.lease(command.lease)), (lease) => run.names.lease(lease))
    case "revoke":
      return knowLatest(run, Effect.as(backendOf(kv).leaseRevoke(run.lease(command.lease)), "revoked"))
    case "timeToLive":
      return Effect.map(
        backendOf(kv).leaseTimeToLive(run.lease(command.lease), { keys: command.keys }),
        (status) => run.names.leaseStatus(status)
      )
    case "compact":
      return Effect.andThen(
        // A watch that is behind a compaction may or may not still have the compacted events.
        readLog(run),
        compact(run, run.revision(command.revision))
      )
    case "replay":
      return replay(run, command)
  }
}

/** For commands whose response has no revision: the outcome, and the revision after it. */
const knowLatest = <A extends Outcome>(
  run: ProgramRun,
  call: Effect.Effect<A, KvError.KvError>
): Effect.Effect<Outcome, KvError.KvError> =>
  Effect.zipWith(
    call,
    run.side.kv.range(KeyRange.key("?"), { countOnly: true }),
    (outcome, response) => [outcome, run.names.revision(run.saw(response).revision)]
  )

const compact = (run: ProgramRun, revision: bigint) =>
  Effect.match(run.side.compact(revision), {
    onFailure: () => "not compacted",
    onSuccess: () => "compacted"
  })

const grant = (run: ProgramRun, slot: number, ownId: boolean) =>
  Effect.map(
    backendOf(run.side.kv).leaseGrant({ ttl: "1 hour", id: ownId ? ownLeaseId(slot) : undefined }),
    (lease) => {
      run.leases.set(slot, lease.id)
      run.granted.add(lease.id)
      run.names.nameLease(lease.id, `lease ${slot}${ownId ? " (own id)" : ""}`)
      return run.names.lease(lease)
    }
  )

const grantAndRevoke = (run: ProgramRun, seconds: number) =>
  Effect.flatMap(backendOf(run.side.kv).leaseGrant({ ttl: `${seconds} seconds` }), (lease) => {
    run.names.nameLease(lease.id, "a lease")
    return Effect.as(backendOf(run.side.kv).leaseRevoke(lease.id), run.names.lease(lease))
  })

/** Reads the watch of all keys up to the revision of the store. Each revision has an event. */
const readLog = Effect.fnUntraced(function*(run: ProgramRun) {
  const read = () => run.log.at(-1)?.revision ?? run.names.base
  while (read() < run.latest) {
    run.log.push(...yield* promptly(`revision ${run.latest}`, run.watcher.take))
  }
})

/** Replays a watch of a range, and compares it with what the watch of all keys saw. */
const replay = Effect.fnUntraced(function*(run: ProgramRun, command: Extract<Program.Command, { do: "replay" }>) {
  yield* readLog(run)
  const startRevision = run.revision(command.from)
  const expected = KeyRange.invalid(command.range) === undefined
    ? run.log.flatMap((batch) => batch.events).filter((event) =>
      event.revision >= startRevision && KeyRange.contains(command.range, event.key) &&
      (command.only === undefined || event._tag === command.only)
    )
    : []
  const last = expected.at(-1)?.revision ?? 0n
  const replayed = yield* Effect.scoped(Effect.gen(function*() {
    const { only, previous, range } = command
    const watcher = yield* promptly("the watch", backendOf(run.side.kv).watch({ range, startRevision, previous, only }))
    const batches: Array<Watch.Revision> = []
    while ((batches.at(-1)?.revision ?? 0n) < last) {
      batches.push(...yield* promptly(`the replay up to ${last}`, watcher.take))
    }
    return { revision: run.names.revision(watcher.revision), batches }
  }))
  const seen = replayed.batches.flatMap((batch) => batch.events)
  const isComplete = seen.length === expected.length &&
    seen.every((event, i) => event.key === expected[i]!.key && event.revision === expected[i]!.revision)
  return [
    replayed.revision,
    isComplete ? "as the watch saw it" : "NOT as the watch saw it",
    run.names.batches(replayed.batches)
  ]
})

/**
 * The result of a program.
 *
 * @since 0.1.0
 */
export interface Report {
  /** The outcome of each command. */
  readonly outcomes: ReadonlyArray<Outcome>
  /** What a watch of everything saw, for each revision. */
  readonly watched: ReadonlyArray<Outcome>
  /** The content of the store at the end. */
  readonly end: Outcome
}

/** Empties the store and runs the program. */
export const runProgram = Effect.fnUntraced(function*(
  side: Side,
  program: Program.Program
): Effect.fn.Return<Report, unknown, Scope.Scope> {
  const { kv } = side
  // A program must not start at the first revision: the one before it would be 0, which is not a revision elsewhere.
  yield* kv.put("?", "")
  yield* kv.deleteRange(KeyRange.all)
  const watcher = yield* backendOf(kv).watch({ range: KeyRange.all, previous: true })
  const run = new ProgramRun(side, watcher.revision, watcher)
  yield* Effect.addFinalizer(() => Effect.forEach(run.granted, (id) => Effect.ignore(backendOf(kv).leaseRevoke(id))))
  const outcomes: Array<Outcome> = []
  for (const command of program) {
    outcomes.push(
      yield* Effect.catch(
        runCommand(run, command),
        (error) => Effect.succeed(isEitherFault(command, error) ? eitherFault : run.names.failure(error))
      )
    )
  }
  yield* readLog(run)
  const end = yield* execute(run, Op.range(KeyRange.all))
  return { outcomes, watched: run.names.batches(run.log), end }
})
