/**
 * The workers of a round: which there are, how they run, and which errors are expected.
 */
import * as KvError from "@effect-kv/core/KvError"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as SeededRandom from "./SeededRandom.ts"
import * as accounts from "./work/accounts.ts"
import * as barriers from "./work/barriers.ts"
import * as collections from "./work/collections.ts"
import * as data from "./work/data.ts"
import * as elections from "./work/elections.ts"
import * as invoices from "./work/invoices.ts"
import * as latches from "./work/latches.ts"
import * as leases from "./work/leases.ts"
import * as locks from "./work/locks.ts"
import * as queues from "./work/queues.ts"
import * as sequences from "./work/sequences.ts"
import * as settings from "./work/settings.ts"
import * as shards from "./work/shards.ts"
import * as shared from "./work/shared.ts"
import * as shortLivedClients from "./work/shortLivedClients.ts"
import * as singletons from "./work/singletons.ts"
import * as slots from "./work/slots.ts"
import * as steps from "./work/steps.ts"
import * as sums from "./work/sums.ts"
import * as ticks from "./work/ticks.ts"
import type { RecordedClient, Step } from "./work/Worker.ts"

type WorkerKind = readonly [kind: string, count: number, step: Step]

/** The workers of each client. */
const workerKinds: ReadonlyArray<WorkerKind> = [
  ["register", 12, data.register],
  ["compareAndSet", 4, data.compareAndSet],
  ["txn", 6, data.txn],
  ["append", 2, data.append],
  ["lease", 1, leases.lease],
  ["temporaryKey", 1, leases.temporaryKey],
  ["increment", 3, locks.increment],
  ["lead", 1, elections.lead],
  ["usePermits", 1, shared.usePermits],
  ["readOrWrite", 1, shared.readOrWrite],
  ["tick", 1, ticks.tick],
  ["transfer", 1, accounts.transfer],
  ["add", 1, sums.add],
  ["useSlot", 1, slots.use],
  ["useLatch", 2, latches.useLatch],
  ["meet", 1, barriers.meet],
  ["takeNumber", 1, sequences.take],
  ["doStep", 1, steps.doStep],
  ["singleton", 1, singletons.instance],
  ["updateUser", 1, collections.update],
  ["changeSettings", 1, settings.change],
  ["ownShards", 1, shards.live],
  ["workOnQueue", 1, queues.work],
  ["shortLivedClient", 1, shortLivedClients.shortLivedClient]
]

/** Those of a client whose application has tables in the database of the store. */
const applicationKinds: ReadonlyArray<WorkerKind> = [["bill", 2, invoices.bill]]

const kindsOf = ({ application }: RecordedClient): ReadonlyArray<WorkerKind> =>
  application === undefined ? workerKinds : [...workerKinds, ...applicationKinds]

/** How often each kind of work was completed. */
export type Done = Readonly<Record<string, number>>

/** The shortest and longest pause between two steps of a worker, in milliseconds. */
const rest = [2, 20] as const

/** How long a worker may take to end after it is stopped. Each of its calls has a deadline. */
const endWithin = "40 seconds"

/** Starts all workers. They run until they are stopped or the scope closes. */
export const start = Effect.fnUntraced(function*(
  clients: ReadonlyArray<RecordedClient>,
  seed: number,
  problems: Array<string>
) {
  const done: Record<string, number> = Object.fromEntries(
    clients.flatMap(kindsOf).map(([kind]) => [kind, 0])
  )
  let isAtWork = true
  const working = Effect.fnUntraced(function*(client: RecordedClient, kind: string, name: string, step: Step) {
    // oxlint-disable-next-line no-unmodified-loop-condition -- by `end`, in another fiber
    for (let i = 0; isAtWork; i++) {
      const random = SeededRandom.make(seed, client.name, name, i)
      const rests = random.int(...rest)
      // Some callers interrupt the step.
      const interruptAfter = random.chance(0.01) ? random.int(0, 10) : undefined
      const doing = Effect.suspend(() => step(client, random))
      const exit = yield* Effect.exit(
        interruptAfter === undefined ? doing : Effect.timeoutOption(doing, interruptAfter)
      )
      if (Exit.isSuccess(exit)) done[kind]! += interruptAfter === undefined ? 1 : 0
      else noteUnexpected(exit.cause, `${client.name} ${name} step ${i}`, problems)
      yield* Effect.sleep(rests)
    }
  })
  const workers = yield* Effect.forEach(
    clients.flatMap((client) =>
      kindsOf(client).flatMap(([kind, count, step]) =>
        Array.from({ length: count }, (_, i) => ({ client, kind, i, step }))
      )
    ),
    ({ client, i, kind, step }) => Effect.forkScoped(working(client, kind, `${kind}/${i}`, step))
  )
  const end = Effect.gen(function*() {
    isAtWork = false
    const exits = yield* Effect.timeoutOption(Fiber.awaitAll(workers), endWithin)
    if (exits._tag === "None") problems.push(`a worker did not end within ${endWithin} after it was stopped`)
    else {for (const exit of exits.value) {
        if (Exit.isFailure(exit)) problems.push(`a worker died: ${Cause.pretty(exit.cause)}`)
      }}
  })
  return { done: done as Done, end }
})

/** The errors that a step may fail with under faults. */
const expected: ReadonlySet<string> = new Set([
  "Unavailable",
  "DeadlineExceeded",
  "Indeterminate",
  "Compacted",
  "LeaseNotFound",
  "LockLost",
  "LockTimeout",
  "LockHoldExceeded"
])

/** Records an unexpected error. An interruption is unexpected, too: only the worker itself interrupts a step. */
export const noteUnexpected = (
  cause: Cause.Cause<unknown>,
  what: string,
  problems: Array<string>,
  mayBeInterrupted = false
): void => {
  const isExpected = cause.reasons.every((reason) =>
    reason._tag === "Interrupt" ? mayBeInterrupted : reason._tag === "Fail" && expected.has(tagOf(reason.error))
  )
  if (!isExpected) problems.push(`${what} failed unexpectedly: ${Cause.pretty(cause)}`)
}

const tagOf = (error: unknown): string => {
  if (KvError.isKvError(error)) return error.reason._tag
  return typeof error === "object" && error !== null && "_tag" in error ? String(error._tag) : ""
}
