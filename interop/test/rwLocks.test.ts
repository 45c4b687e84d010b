/**
 * Our read-write lock and Go's `recipe.RWMutex` of the same name are one lock: readers of both share it, and writers of
 * both exclude all others, in order of arrival.
 */
import * as DistRwLock from "@effect-kv/core/DistRwLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import { assert, describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { go, on, ours, server, stillRuns, until } from "./support/clients.ts"

const modes = (kv: Kv.Kv, name: string) =>
  Effect.map(on(kv)(DistRwLock.contenders(name)), (all) => all.map(({ mode }) => mode).join())

const untilModes = (kv: Kv.Kv, name: string, ...expected: ReadonlyArray<"Read" | "Write">) =>
  until(
    `the contenders of ${name} are ${expected.join()}`,
    Effect.map(modes(kv, name), (found) => found === expected.join())
  )

/** Acquires our lock until it is released. */
const hold = Effect.fnUntraced(function*(kv: Kv.Kv, mode: "Read" | "Write", name: string) {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const acquire = mode === "Read" ? DistRwLock.acquireRead : DistRwLock.acquireWrite
  yield* acquire(name).pipe(on(kv), Scope.provide(scope))
  return Scope.close(scope, Exit.void)
})

layer(server, { excludeTestServices: true, timeout: "2 minutes" })((it) => {
  describe("read-write locks with Go", () => {
    it.effect("readers of both share the lock, and Go's writer waits for ours", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const session = yield* (yield* go()).session({ ttl: 60 })
        const release = yield* hold(kv, "Read", "shared")
        yield* session.rwLock("Read", "shared", "reader")
        yield* untilModes(kv, "shared", "Read", "Read")
        const writer = yield* Effect.forkScoped(session.rwLock("Write", "shared", "writer"))
        yield* untilModes(kv, "shared", "Read", "Read", "Write")
        yield* session.rwUnlock("Read", "shared", "reader")
        assert.isTrue(yield* stillRuns(kv, writer))
        yield* release
        yield* Fiber.join(writer)
        yield* session.rwUnlock("Write", "shared", "writer")
        assert.strictEqual(yield* kv.count(KeyRange.prefix("shared/")), 0)
      }))

    it.effect("our readers and writers wait for Go's writer, and Go's reader for our writer", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const session = yield* (yield* go()).session({ ttl: 60 })
        const order: Array<string> = []
        yield* session.rwLock("Write", "turns", "writer")
        const writer = yield* Effect.forkScoped(
          on(kv)(Effect.sync(() => order.push("our writer")).pipe(DistRwLock.withWriteLock("turns")))
        )
        yield* untilModes(kv, "turns", "Write", "Write")
        const reader = yield* Effect.forkScoped(
          Effect.tap(session.rwLock("Read", "turns", "reader"), Effect.sync(() => order.push("Go's reader")))
        )
        yield* untilModes(kv, "turns", "Write", "Write", "Read")
        const ourReader = yield* Effect.forkScoped(
          on(kv)(Effect.sync(() => order.push("our reader")).pipe(DistRwLock.withReadLock("turns")))
        )
        yield* untilModes(kv, "turns", "Write", "Write", "Read", "Read")
        yield* stillRuns(kv, reader)
        for (const fiber of [writer, reader, ourReader]) assert.isUndefined(fiber.pollUnsafe())
        yield* session.rwUnlock("Write", "turns", "writer")
        yield* Fiber.joinAll([writer, ourReader])
        yield* Fiber.join(reader)
        assert.strictEqual(order[0], "our writer")
        assert.deepStrictEqual(order.slice(1).toSorted(), ["Go's reader", "our reader"])
        yield* session.rwUnlock("Read", "turns", "reader")
      }))

    it.effect("Go's lock of a longer name does not block ours, and a dead session of Go frees the lock", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const session = yield* (yield* go()).session({ ttl: 60 })
        yield* session.rwLock("Write", "name/writers", "other")
        yield* on(kv)(Effect.void.pipe(DistRwLock.withReadLock("name")))
        yield* on(kv)(Effect.void.pipe(DistRwLock.withWriteLock("name")))
        // Go itself looks at every key under "name/", so this would wait.
        yield* session.rwUnlock("Write", "name/writers", "other")
        yield* session.rwLock("Write", "name", "dead")
        const waiting = yield* Effect.forkScoped(on(kv)(Effect.void.pipe(DistRwLock.withReadLock("name"))))
        yield* untilModes(kv, "name", "Write", "Read")
        assert.isTrue(yield* stillRuns(kv, waiting))
        yield* session.close
        yield* Fiber.join(waiting)
      }))
  })
})
