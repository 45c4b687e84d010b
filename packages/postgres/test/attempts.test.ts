/**
 * Attempts on a pool in memory: what a caller learns, and what becomes of the connections, whatever happens when.
 */
import * as SendControl from "@effect-kv/core/SendControl"
import type * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Semaphore from "effect/Semaphore"
import type { Connection } from "effect/sql/SqlConnection"
import { ConnectionError, SqlError } from "effect/sql/SqlError"
import { Attempts, type Outcome } from "../src/internal/attempts.ts"

/** How many random runs there are. */
const seeds = 60

const generator = (seed: number) => {
  // A linear congruential generator, by its upper bits.
  let state = seed
  return (n: number): number => {
    state = (state * 1103515245 + 12345) % 2147483648
    return Math.floor(state / 65536) % n
  }
}

const pause = (millis: number) => Effect.sleep(millis)

/** A pool whose connections fail, delay and do not stop at once when a statement is given up. */
const pool = (size: number, below: (n: number) => number) => {
  const free = Semaphore.makeUnsafe(size)
  const state = { reserved: 0, busy: 0, mostBusy: 0, sent: new Map<string, number>(), released: 0 }
  const failure = new SqlError({
    reason: new ConnectionError({ cause: new Error("broken"), message: "broken", operation: "query" })
  })
  const newConnection = () => {
    let isBusy = false
    let isBroken = false
    let isReserved = true
    const executeValues = (sql: string) =>
      Effect.suspend(() => {
        assert.isFalse(isBusy, "a statement is sent while another one is in flight")
        assert.isTrue(isReserved, "a statement is sent on a connection that was released")
        assert.isFalse(isBroken, "a statement is sent on a connection whose statement failed or was given up")
        state.sent.set(sql, (state.sent.get(sql) ?? 0) + 1)
        isBusy = true
        state.busy++
        state.mostBusy = Math.max(state.mostBusy, state.busy)
        const end = () => {
          isBusy = false
          state.busy--
        }
        const kind = below(12)
        const millis = below(4)
        return Effect.callback<ReadonlyArray<ReadonlyArray<unknown>>, SqlError>((resume) => {
          const respond = () => {
            end()
            if (kind < 2) isBroken = true
            resume(kind < 2 ? Effect.fail(failure) : Effect.succeed([[sql]]))
          }
          if (kind === 2) return respond()
          const timer = setTimeout(respond, kind === 3 ? 30 : millis)
          return Effect.suspend(() => {
            if (!isBusy) return Effect.void
            clearTimeout(timer)
            isBroken = true
            // The connection waits for the end of the statement.
            return Effect.andThen(pause(below(5)), Effect.sync(end))
          })
        })
      })
    return {
      connection: { executeValues } as unknown as Connection,
      release: () => {
        assert.isFalse(isBusy, "a connection is released while a statement is in flight")
        isReserved = false
      }
    }
  }
  const reserve = Effect.acquireRelease(
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(
        restore(free.take(1)),
        () =>
          Effect.onInterrupt(restore(Effect.suspend(() => below(3) === 0 ? pause(below(3)) : Effect.void)), () =>
            free.release(1)).pipe(Effect.map(() => {
              state.reserved++
              return newConnection()
            }))
      )
    ),
    ({ release }) =>
      Effect.suspend(() => {
        state.reserved--
        state.released++
        release()
        return free.release(1)
      }),
    { interruptible: true }
  )
  const pg = {
    config: { maxConnections: size },
    reserve: Effect.map(reserve, ({ connection }) => connection)
  } as unknown as PgClient.PgClient
  return { pg, state, free }
}

const randomRun = Effect.fnUntraced(function*(seed: number) {
  const below = generator(seed)
  const size = 1 + below(4)
  const { free, pg, state } = pool(size, below)
  let foundClosed = 0
  const attempts = new Attempts(pg, Effect.runForkWith(yield* Effect.context<never>()), () => foundClosed++)
  const turns = Math.max(1, size - Math.min(3, Math.floor(size / 2)))
  const counts = { waited: 0, failed: 0, late: 0, calls: 0 }
  const results = { Failed: 0, Late: 0 }
  const metrics = {
    waited: () => counts.waited++,
    failed: () => counts.failed++,
    late: () => counts.late++
  }
  const call = (name: string, isInTurn: boolean) =>
    Effect.suspend(() => {
      counts.calls++
      const cancelled = below(8) === 0
      const control = new SendControl.SendControl(() => cancelled)
      const end = performance.now() + 1 + below(25)
      const outcome: Effect.Effect<Outcome> = attempts.once({
        query: { sql: name, params: [] },
        remaining: () => end - performance.now(),
        isInTurn,
        metrics: metrics as never
      })
      return Effect.map(Effect.provideService(outcome, SendControl.Current, control), (outcome) => {
        const times = state.sent.get(name) ?? 0
        assert.isAtMost(times, 1)
        const wasSent = times === 1
        if (outcome._tag !== "Closed") assert.strictEqual(control.mayHaveBeenSent, wasSent)
        switch (outcome._tag) {
          case "Rows":
            assert.deepStrictEqual(outcome.rows, [[name]])
            break
          case "Cancelled":
            assert.isFalse(wasSent)
            assert.isTrue(cancelled)
            break
          case "Failed":
          case "Late":
            results[outcome._tag]++
            assert.strictEqual(outcome.sent, wasSent, outcome._tag)
            break
          case "Closed":
            assert.strictEqual(outcome.sent, wasSent, outcome._tag)
            break
        }
      })
    })
  const callers: Array<Fiber.Fiber<unknown, unknown>> = []
  for (let caller = 0; caller < 12; caller++) {
    const isInTurn = below(6) > 0
    callers.push(
      yield* Effect.forkChild(Effect.gen(function*() {
        for (let i = 0; i < 15; i++) {
          const one = call(`${caller}/${i}`, isInTurn)
          if (below(4) === 0) yield* Effect.timeoutOption(one, below(12))
          else yield* one
          if (below(5) === 0) yield* pause(below(3))
        }
      }))
    )
  }
  if (below(3) === 0) {
    yield* pause(below(60))
    attempts.close()
    yield* attempts.drained
  }
  for (const caller of callers) {
    const exit = yield* Fiber.await(caller)
    assert.strictEqual(exit._tag, "Success", `${exit}`)
  }
  yield* Effect.repeat(pause(1), { until: () => state.reserved === 0 && state.busy === 0 })
  // All turns and all connections are free again.
  yield* free.take(size)
  yield* free.release(size)
  assert.isAtMost(state.mostBusy, size)
  if (attempts.isOpen) {
    const all = Array.from({ length: turns }, (_, i) =>
      attempts.once({
        query: { sql: `last/${i}`, params: [] },
        remaining: () => 5000,
        isInTurn: true,
        metrics: undefined
      }))
    yield* Effect.all(all, { concurrency: "unbounded" })
  }
  assert.strictEqual(foundClosed, 0)
  assert.strictEqual(counts.failed, results.Failed)
  assert.strictEqual(counts.late, results.Late)
  assert.isAtMost(counts.waited, counts.calls)
})

describe("attempts", () => {
  it.live("are each sent at most once on a free connection, and say whether they were, whatever happens", () =>
    Effect.forEach(Array.from({ length: seeds }, (_, i) => i), (seed) => Effect.scoped(randomRun(seed)), {
      concurrency: 6,
      discard: true
    }))
})
