/**
 * `Kv.atomically`: runs a function of a transaction, and commits what it wrote if nothing it read has changed.
 *
 * A commit that was rejected reads everything again in the same request, so each further run costs one request. Runs
 * that follow a conflict take turns within a client: n concurrent ones would need n * n / 2 commits. After two conflicts,
 * other writes of the client to what was read wait.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { execute, type KvBackend } from "../../backend/KvBackend.ts"
import type { Kv, Transaction } from "../../service/KvService.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"
import * as conflicts from "./conflicts.ts"
import * as guard from "./guard.ts"
import * as transactions from "./transaction.ts"
import { Turns } from "./turns.ts"

/** How a run ended: it was committed, or the next one starts, with what is known of the store by then. */
type Outcome<A> =
  | { readonly _tag: "Committed"; readonly result: A }
  | { readonly _tag: "Conflict"; readonly snapshot: transactions.Snapshot | undefined }

/** The turns of each client. The note says that another transaction ran immediately before. */
const turnsByClient = new WeakMap<object, Turns<true>>()

const turnsOf = (client: object): Turns<true> => {
  const turns = turnsByClient.get(client) ?? new Turns<true>()
  turnsByClient.set(client, turns)
  return turns
}

export const make = (backend: KvBackend, origin: guard.Origin): Kv["atomically"] => {
  const turns = turnsOf(origin.client)

  const run = Effect.fnUntraced(function*<A, E, R>(
    f: (transaction: Transaction) => Effect.Effect<A, E, R>,
    snapshot: transactions.Snapshot | undefined
  ): Effect.fn.Return<Outcome<A>, E | KvError.KvError, R> {
    const made = transactions.make(backend, snapshot)
    const exit = yield* Effect.exit(Effect.suspend(() => f(made.transaction)))
    made.end()
    if (made.isStale()) return { _tag: "Conflict", snapshot: undefined }
    if (Exit.isFailure(exit)) return yield* Effect.failCause(exit.cause)
    const commit = made.commit()
    if (commit === undefined) return { _tag: "Committed", result: exit.value }
    const problem = yield* Effect.withFiber((fiber) => Effect.succeed(tooLarge(commit, guard.reserved(origin, fiber))))
    if (problem !== undefined) return yield* KvError.fail(new KvError.InvalidRequest({ message: problem }))
    const response = yield* execute(
      backend,
      Op.txn({ if: commit.conditions, then: commit.writes, else: commit.reads.map(([, read]) => read) })
    )
    return response.succeeded
      ? { _tag: "Committed", result: exit.value }
      : { _tag: "Conflict", snapshot: transactions.snapshotOf(commit, response.revision, response.responses) }
  })

  return Effect.fnUntraced(function*<A, E, R>(
    f: (transaction: Transaction) => Effect.Effect<A, E, R>
  ): Effect.fn.Return<A, E | KvError.KvError, R> {
    const attempts = yield* conflicts.start
    const first = yield* run(f, undefined)
    if (first._tag === "Committed") return first.result
    return yield* turns.run("", (turn) =>
      Effect.gen(function*() {
        // What was read before the wait is old by now.
        let snapshot = turn.take() === true ? undefined : first.snapshot
        const attempt = Effect.gen(function*() {
          const outcome = yield* run(f, snapshot)
          if (outcome._tag === "Committed") return Option.some(outcome.result)
          snapshot = outcome.snapshot
          return Option.none()
        })
        const ranges = (): ReadonlyArray<KeyRange.KeyRange> =>
          [...snapshot?.reads.values() ?? []].map(({ range }) => KeyRange.addPrefix(range, origin.prefix))
        const result = yield* conflicts.untilSuccess(attempts, { client: origin.client, ranges }, attempt)
        turn.leave(true)
        return result
      }))
  })
}

/** The problem with a commit that the store would reject for its size; `undefined` if there is none. */
const tooLarge = ({ conditions, writes }: transactions.Commit, reserved: number): string | undefined => {
  const allowed = transactions.maxOps - reserved
  if (conditions.length <= allowed && writes.length <= allowed) return undefined
  return `the transaction is too large: it compares ${conditions.length} keys and ranges and writes ${writes.length} ` +
    `keys, but a transaction holds ${allowed} of each${
      reserved === 0 ? "" : " under these locks"
    }; read and write fewer`
}
