/**
 * Eight watches through a link that is cut dozens of times and a server that is killed. Each delivers exactly what
 * `etcdctl watch` recorded beside them: no event more or less, and no revision in two parts.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import { EtcdCluster, TcpProxy } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { client } from "./support/client.ts"
import { batchesUpTo, eventually, linesOf, linesOfHistory, watch } from "./support/watching.ts"

const cuts = 54
const kills = 5
const wantedEvents = 100_000

interface Kind {
  readonly range: KeyRange.KeyRange
  readonly only?: "Put" | "Delete" | undefined
}

const kinds: ReadonlyArray<Kind> = [
  { range: KeyRange.prefix("k/") },
  { range: KeyRange.prefix("k/"), only: "Put" },
  { range: KeyRange.prefix("k/"), only: "Delete" },
  { range: KeyRange.prefix("k/a/") },
  { range: KeyRange.prefix("k/b/") },
  { range: KeyRange.halfOpen("k/b/", "k/d/") },
  { range: KeyRange.key("k/c/3") },
  { range: KeyRange.from("k/c/") }
]

const letters = ["a", "b", "c", "d"]

/** So many revisions that a watch falls far behind and catches up on a separate stream. */
const writeBacklog = (kv: Kv.Kv): Effect.Effect<void, KvError> =>
  Effect.forEach(
    Array.from({ length: 2500 }, (_, i) => i),
    (i) => kv.txn({ then: letters.map((letter) => Op.put(`k/${letter}/${i % 60}`, `${i}`)) }),
    { concurrency: 16, discard: true }
  )

/**
 * Transactions of 60 operations each. Their results do not matter. The pause leaves time to the watches, which otherwise
 * are always behind.
 */
const write = (kv: Kv.Kv, first: number): Effect.Effect<never> =>
  Effect.gen(function*() {
    for (let i = first;; i++) {
      const then = Array.from({ length: 60 }, (_, k) => {
        const key = `k/${letters[(i + k) % 4]}/${k}`
        return (i * 7 + k) % 5 === 0 ? Op.delete(key) : Op.put(key, `${i}`)
      })
      yield* Effect.ignore(kv.txn({ then }))
      yield* Effect.sleep("15 millis")
    }
  })

/** A selector of the response to a create: the watch's id on its stream, which is 2^31 + 1 or more, and the `created` flag. */
const created = (chunk: Uint8Array): boolean =>
  kinds.some((_, i) =>
    TcpProxy.contains(new Uint8Array([0x10, 0x80 | (i + 1), 0x80, 0x80, 0x80, 0x08, 0x18, 0x01]))(chunk)
  )

/** Selects the first chunk after the selected one. */
const after = (condition: (chunk: Uint8Array) => boolean): (chunk: Uint8Array) => boolean => {
  let seen = false
  return (chunk) => {
    if (seen) return true
    seen = condition(chunk)
    return false
  }
}

/** The ways in which the link breaks. Each waits until it has. */
const breaks: ReadonlyArray<(proxy: TcpProxy.TcpProxy) => Effect.Effect<void>> = [
  (proxy) => proxy.cut,
  // In the middle of a batch.
  (proxy) => Effect.flatMap(proxy.cutMidFrame({ when: (chunk) => chunk.length > 2000 }), ({ struck }) => struck),
  // In the responses to creates.
  (proxy) =>
    Effect.gen(function*() {
      const { struck } = yield* proxy.cutMidFrame({ when: created })
      yield* proxy.cut
      yield* struck
    }),
  // Directly after them, in the next chunk.
  (proxy) =>
    Effect.gen(function*() {
      const { struck } = yield* proxy.cutMidFrame({ when: after(created) })
      yield* proxy.cut
      yield* struck
    }),
  // After the server has the creates, before the client has the responses.
  (proxy) =>
    Effect.gen(function*() {
      const { struck } = yield* proxy.cutAfterForwarding({ when: TcpProxy.contains("k/c/3") })
      yield* proxy.cut
      yield* struck
    }),
  (proxy) => Effect.andThen(proxy.cut, Effect.andThen(Effect.sleep("5 millis"), proxy.cut))
]

describe("watches through faults", () => {
  it.live(
    `${cuts} cuts and ${kills} kills change nothing in what ${kinds.length} watches deliver`,
    () =>
      Effect.gen(function*() {
        const cluster = yield* EtcdCluster.make()
        const proxy = yield* TcpProxy.make({ target: cluster.endpoints[0]! })
        const history = yield* cluster.watchFrom(1n)
        const kv = yield* client({ endpoints: [proxy.endpoint] })
        const direct = yield* client({ endpoints: cluster.endpoints })
        yield* writeBacklog(direct)
        const watchers = yield* Effect.forEach(
          kinds,
          ({ only, range }) => watch(kv, range, { only, startRevision: 2n })
        )

        const delivered = watchers.map(() => [] as Array<string>)
        const last = watchers.map(() => 1n)
        const consuming = yield* Effect.forEach(watchers, (watcher, i) =>
          Effect.forkChild(Effect.forever(Effect.gen(function*() {
            const batches = yield* watcher.take
            for (const { revision } of batches) {
              if (revision <= last[i]!) {
                return yield* Effect.die(new Error(`${revision} came after ${last[i]}`))
              }
              last[i] = revision
            }
            delivered[i]!.push(...linesOf(batches))
          }))))
        const writing = yield* Effect.forEach([0, 1_000_000], (first) =>
          Effect.forkChild(write(direct, first)))

        for (let i = 0; i < cuts; i++) {
          yield* breaks[i % breaks.length]!(proxy)
          // Usually the watches progress in between, so that every cut meets them at another position.
          const before = delivered[0]!.length
          if (i % 4 > 0) {
            yield* eventually(Effect.sync(() =>
              delivered[0]!.length > before
            ))
          }
          if (i % Math.ceil(cuts / kills) === 3) yield* cluster.member.restart
        }
        yield* Fiber.interruptAll(writing)
        const marks = ["k/a/", "k/b/3", "k/c/3", "k/d/"]
        // A delete needs an existing key, and some watches receive only puts.
        const puts = yield* direct.txn({ then: marks.map((key) => Op.put(key, "end")) })
        const deletes = yield* direct.txn({ then: marks.map((key) => Op.delete(key)) })
        const isDone = Effect.sync(() =>
          kinds.every(({ only }, i) => last[i]! >= (only === "Put" ? puts.revision : deletes.revision))
        )
        yield* Effect.raceFirst(eventually(isDone), Fiber.joinAll(consuming))
        yield* Fiber.interruptAll(consuming)

        const recorded = yield* history.upTo(deletes.revision)
        let events = 0
        for (const [i, { only, range }] of kinds.entries()) {
          const expected = recorded.filter(({ key, type }) =>
            KeyRange.contains(range, key) && (only === undefined || only.toLowerCase() === type)
          )
          events += expected.length
          assertSame(delivered[i]!, linesOfHistory(expected), `watch ${i}`)
        }
        assert.isAtLeast(events, wantedEvents)
      }),
    120_000
  )

  it.live("events that were sent before a cut and are sent again are delivered once", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.make()
      const proxy = yield* TcpProxy.make({ target: cluster.endpoints[0]! })
      const kv = yield* client({ endpoints: [proxy.endpoint] })
      const direct = yield* client({ endpoints: cluster.endpoints })
      const watcher = yield* watch(kv, KeyRange.all)
      let revision = 0n
      for (let i = 0; i < 50; i++) {
        revision = (yield* direct.put("a", `${i}`)).revision
        if (i % 2 === 0) yield* proxy.cut
      }
      const batches = yield* batchesUpTo(watcher, revision)
      assert.strictEqual(batches.length, 50)
    }))
})

/** Reports the first difference of two logs without printing them. */
const assertSame = (delivered: ReadonlyArray<string>, expected: ReadonlyArray<string>, what: string): void => {
  const at = expected.findIndex((line, i) => line !== delivered[i])
  if (at >= 0) assert.strictEqual(delivered[at], expected[at], `${what}, line ${at} of ${expected.length}`)
  assert.strictEqual(delivered.length, expected.length, what)
}
