/**
 * Runs a program on one store, and says what came of each command in terms that are the same for every store.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import type * as KvError from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import type * as Watch from "@effect-kv/core/Watch"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { promptly } from "../cases/Case.ts"
import { Names, type Outcome } from "./Names.ts"
import type * as Program from "./Program.ts"

/**
 * One of the two stores. No other client writes to it, and everything in it is deleted.
 *
 * @since 0.1.0
 */
export interface Side {
  /** A client of the store. */
  readonly kv: Kv.Kv
  /** Compacts the store at the revision. */
  readonly compact: (revision: bigint) => Effect.Effect<void, unknown>
}

const unknownLease = 4711n
const ownLeaseId = (slot: number): bigint => 7_000_000_000_000_000_001n + BigInt(slot)

/** What the run of a program knows of its store. */
class Run {
  readonly side: Side
  readonly names: Names
  readonly leases = new Map<number, bigint>()
  readonly granted = new Set<bigint>()
  readonly watcher: Watch.Watcher
  /** What the watch of everything has delivered. */
  readonly log: Array<Watch.Batch> = []
  /** The store's revision, as far as it is known. */
  latest: bigint

  constructor(side: Side, base: bigint, watcher: Watch.Watcher) {
    this.side = side
    this.names = new Names(base)
    this.latest = base
    this.watcher = watcher
  }

  revision(of: Program.Revision): bigint {
    switch (of) {
      case "zero":
        return 0n
      case "negative":
        return -1n
      case "huge":
        return 2n ** 63n - 1n
      default: {
        const revision = this.latest - BigInt(of)
        return revision < this.names.base ? this.names.base : revision
      }
    }
  }

  optionalRevision(of: Program.Revision | undefined): bigint | undefined {
    return of === undefined ? undefined : this.revision(of)
  }

  lease(of: Program.LeaseSlot): bigint {
    return of === "unknown" ? unknownLease : this.leases.get(of) ?? unknownLease
  }

  saw<A extends { readonly revision: bigint }>(response: A): A {
    if (response.revision > this.latest) this.latest = response.revision
    return response
  }
}

// -----------------------------------------------------------------------------
// from the program's terms to the store's
// -----------------------------------------------------------------------------

const toRangeOptions = (run: Run, read: Program.Read): Op.RangeOptions => ({
  limit: read.limit,
  order: read.by === undefined
    ? undefined
    : { by: read.by, direction: read.descending === true ? "descending" : "ascending" },
  keysOnly: read.keysOnly,
  countOnly: read.countOnly,
  serializable: read.serializable,
  revision: run.optionalRevision(read.revision),
  minModRevision: run.optionalRevision(read.minModRevision),
  maxModRevision: run.optionalRevision(read.maxModRevision),
  minCreateRevision: run.optionalRevision(read.minCreateRevision),
  maxCreateRevision: run.optionalRevision(read.maxCreateRevision)
})

const toCompare = (run: Run, condition: Program.Condition): Compare.Compare => {
  switch (condition.on) {
    case "value":
      return Compare.value(condition.key, condition.operator, condition.value)
    case "version":
      return Compare.version(condition.key, condition.operator, condition.value)
    case "createRevision":
      return Compare.createRevision(condition.key, condition.operator, run.revision(condition.value))
    case "modRevision":
      return Compare.modRevision(condition.key, condition.operator, run.revision(condition.value))
    case "lease":
      return Compare.lease(
        condition.key,
        condition.operator,
        condition.value === "none" ? 0n : run.lease(condition.value)
      )
    case "createdBefore":
      return Compare.createdBefore(condition.range, run.revision(condition.revision))
  }
}

const toOp = (run: Run, operation: Program.Operation): Op.Op => {
  switch (operation.do) {
    case "range":
      return Op.range(operation.range, toRangeOptions(run, operation.read))
    case "put":
      return Op.put(operation.key, operation.value, {
        lease: operation.lease === undefined ? undefined : run.lease(operation.lease),
        previous: operation.previous
      })
    case "delete":
      return Op.delete(operation.range, { previous: operation.previous })
    case "txn":
      return Op.txn({
        if: operation.if.map((condition) => toCompare(run, condition)),
        then: operation.then.map((inner) => toOp(run, inner)),
        else: operation.else.map((inner) => toOp(run, inner))
      })
  }
}

const manyPuts = (n: number, prefix: string): ReadonlyArray<Op.Op> =>
  Array.from({ length: n }, (_, i) => Op.put(`${prefix}${i}`, "v"))

// -----------------------------------------------------------------------------
// commands
// -----------------------------------------------------------------------------

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

const execute = (run: Run, op: Op.Op): Effect.Effect<Outcome, KvError.KvError> =>
  Effect.map(run.side.kv.backend.execute(op), (response) => run.names.response(op, run.saw(response)))

const runCommand = (run: Run, command: Program.Command): Effect.Effect<Outcome, KvError.KvError> => {
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
      return Effect.map(kv.backend.leaseKeepAlive(run.lease(command.lease)), (lease) => run.names.lease(lease))
    case "revoke":
      return knowLatest(run, Effect.as(kv.backend.leaseRevoke(run.lease(command.lease)), "revoked"))
    case "timeToLive":
      return Effect.map(
        kv.backend.leaseTimeToLive(run.lease(command.lease), { keys: command.keys }),
        (status) => run.names.leaseStatus(status)
      )
    case "compact":
      return Effect.andThen(
        // A watch that has not been read up to a compaction may or may not have kept what was compacted.
        readLog(run),
        compact(run, run.revision(command.revision))
      )
    case "replay":
      return replay(run, command)
  }
}

/** For commands whose answer does not carry the revision: the outcome, and the revision after it. */
const knowLatest = <A extends Outcome>(
  run: Run,
  call: Effect.Effect<A, KvError.KvError>
): Effect.Effect<Outcome, KvError.KvError> =>
  Effect.zipWith(
    call,
    run.side.kv.range(KeyRange.key("?"), { countOnly: true }),
    (outcome, response) => [outcome, run.names.revision(run.saw(response).revision)]
  )

const compact = (run: Run, revision: bigint) =>
  Effect.match(run.side.compact(revision), {
    onFailure: () => "not compacted",
    onSuccess: () => "compacted"
  })

const grant = (run: Run, slot: number, ownId: boolean) =>
  Effect.map(
    run.side.kv.backend.leaseGrant({ ttl: "1 hour", id: ownId ? ownLeaseId(slot) : undefined }),
    (lease) => {
      run.leases.set(slot, lease.id)
      run.granted.add(lease.id)
      run.names.nameLease(lease.id, `lease ${slot}${ownId ? " (own id)" : ""}`)
      return run.names.lease(lease)
    }
  )

const grantAndRevoke = (run: Run, seconds: number) =>
  Effect.flatMap(run.side.kv.backend.leaseGrant({ ttl: `${seconds} seconds` }), (lease) => {
    run.names.nameLease(lease.id, "a lease")
    return Effect.as(run.side.kv.backend.leaseRevoke(lease.id), run.names.lease(lease))
  })

/** Reads the watch of everything up to the store's revision. Each revision has an event in it. */
const readLog = Effect.fnUntraced(function*(run: Run) {
  const read = () => run.log.at(-1)?.revision ?? run.names.base
  while (read() < run.latest) {
    run.log.push(...yield* promptly(`revision ${run.latest}`, run.watcher.take))
  }
})

/** What the watch of everything saw of a range, and what a watch from then replays of it. */
const replay = Effect.fnUntraced(function*(run: Run, command: Extract<Program.Command, { do: "replay" }>) {
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
    const watcher = yield* promptly("the watch", run.side.kv.backend.watch({ range, startRevision, previous, only }))
    const batches: Array<Watch.Batch> = []
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

// -----------------------------------------------------------------------------
// programs
// -----------------------------------------------------------------------------

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
  // Before the first revision of a store comes 0, which is nowhere else a revision: a program must not begin there.
  yield* kv.put("?", "")
  yield* kv.delete(KeyRange.all)
  const watcher = yield* kv.backend.watch({ range: KeyRange.all, previous: true })
  const run = new Run(side, watcher.revision, watcher)
  yield* Effect.addFinalizer(() => Effect.forEach(run.granted, (id) => Effect.ignore(kv.backend.leaseRevoke(id))))
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
