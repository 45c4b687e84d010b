/**
 * What is held and waited for, as `locks`, `elections`, `members` and `sessions` show it, and `release`.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as DistRwLock from "@effect-kv/core/DistRwLock"
import * as DistSemaphore from "@effect-kv/core/DistSemaphore"
import * as Election from "@effect-kv/core/Election"
import * as Kv from "@effect-kv/core/Kv"
import * as Members from "@effect-kv/core/Members"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { remove } from "../src/inspect/remove.ts"
import { Output } from "./support/inProcess.ts"
import { effectKv, json, layer as server, otherClient, untilKeys } from "./support/store.ts"

/** Cells of the lines of a table. */
const cells = (text: string) => text.trimEnd().split("\n").map((line) => line.trim().split(/\s{2,}/))

/** Acquires until the scope closes, and returns once the key is in the store. */
const enter = Effect.fnUntraced(function*<A, E, R>(prefix: string, keys: number, acquire: Effect.Effect<A, E, R>) {
  const fiber = yield* Effect.forkScoped(acquire)
  yield* untilKeys(prefix, keys)
  return fiber
})

layer(server, { excludeTestServices: true, timeout: "60 seconds" })("listings", (it) => {
  it.effect("locks shows holders and waiters with token, time left, time and description", () =>
    Effect.gen(function*() {
      const lock = yield* DistLock.acquire("see/nightly", {
        description: "a, since 2026-01-02T03:04:05Z",
        ttl: "60 seconds"
      })
      const other = yield* otherClient
      yield* enter("see/nightly/", 2, DistLock.acquire("see/nightly", { description: "b" }).pipe(Effect.provide(other)))
      const { code, out } = yield* effectKv(["locks", "see/"])
      assert.strictEqual(code, 0)
      const [titles, holder, waiter, ...more] = cells(out)
      assert.deepStrictEqual(titles, ["NAME", "KIND", "STATE", "SINCE", "TTL LEFT", "TOKEN", "DESCRIPTION"])
      assert.deepStrictEqual([...holder!.slice(0, 3), holder![5], holder![6]], [
        "see/nightly",
        "lock",
        "holds",
        `${lock.token}`,
        "a, since 2026-01-02T03:04:05Z"
      ])
      assert.match(holder![3]!, /^\d+d \d+h$/)
      assert.match(holder![4]!, /^(\d+s|1m 0s) of 1m 0s$/)
      assert.deepStrictEqual([waiter![0], waiter![1], waiter![4]], ["waits 1", "-", "b"])
      assert.match(waiter![2]!, /^\d+s of 10s$/)
      assert.deepStrictEqual(more, [])
      const { locks, revision, staleSince } = yield* json(["locks", "see/"])
      assert.isNull(staleSince)
      assert.isAtLeast(Number(revision), Number(lock.token))
      assert.deepInclude(locks[0].holders[0], {
        key: lock.key,
        token: `${lock.token}`,
        lease: lock.key.slice("see/nightly/".length),
        ttlSeconds: 60,
        since: "2026-01-02T03:04:05.000Z",
        description: "a, since 2026-01-02T03:04:05Z"
      })
      assert.deepInclude(locks[0], { name: "see/nightly", kind: "lock" })
      assert.strictEqual(locks[0].waiters[0].description, "b")
      assert.isNull(locks[0].waiters[0].since)
    }))

  it.effect("locks shows read-write locks and semaphores, and keys without a lease that block a lock", () =>
    Effect.gen(function*() {
      const kv = yield* Kv.Kv
      yield* DistRwLock.acquireRead("kinds/a", { description: "reader" })
      yield* enter("kinds/a/", 2, DistRwLock.acquireWrite("kinds/a", { description: "writer" }))
      const semaphore = yield* DistSemaphore.make("kinds/b", { permits: 3 })
      yield* semaphore.acquire(2, { description: "two" })
      yield* kv.put("kinds/c/config", "s3cr3t")
      yield* enter("kinds/c/", 2, DistLock.acquire("kinds/c", { description: "blocked" }))
      const { out } = yield* effectKv(["locks", "kinds/"])
      const shown = cells(out).slice(1).map((row) => row.filter((cell) => !/^(\d+|-|\d+s of \d+s)$/.test(cell)))
      assert.deepStrictEqual(shown, [
        ["kinds/a", "rwlock", "holds read", "reader"],
        ["waits 1 write", "writer"],
        ["kinds/b", "semaphore of 3", "holds (2)", "two"],
        ["kinds/c", "lock", "holds", "no lease", "(the key kinds/c/config has no lease)"],
        ["waits 1", "blocked"]
      ])
      assert.notInclude(out, "s3cr3t")
      const { locks } = yield* json(["locks", "kinds/b"])
      assert.deepInclude(locks[0], { kind: "semaphore", permits: 3 })
      assert.strictEqual(locks[0].holders[0].permits, 2)
      yield* kv.delete("kinds/c/config")
    }))

  it.effect("A description cannot send escape sequences to the terminal", () =>
    Effect.gen(function*() {
      yield* DistLock.acquire("escape/nightly", { description: "\x1b[2Jgone" })
      const { out } = yield* effectKv(["locks", "escape/"])
      assert.include(out, "\\u001b[2Jgone")
      assert.notInclude(out, "\x1b")
    }))

  it.effect("elections shows the leader's value and the candidates", () =>
    Effect.gen(function*() {
      const leadership = yield* Election.campaign("vote/billing", { value: "10.0.0.7" })
      yield* leadership.proclaim("10.0.0.8")
      const { out } = yield* effectKv(["elections", "vote/"])
      const [, leader] = cells(out)
      assert.deepStrictEqual([leader![0], leader![1], leader![5]], ["vote/billing", "leads", "10.0.0.8"])
      const { elections } = yield* json(["elections", "vote/"])
      assert.deepInclude(elections[0].leader, { value: "10.0.0.8", token: `${leadership.token}` })
      assert.deepStrictEqual(elections[0].candidates, [])
    }))

  it.effect("members shows keys with a lease that contend for nothing, with their values", () =>
    Effect.gen(function*() {
      const kv = yield* Kv.Kv
      const value = { address: "10.0.0.7" }
      const member = yield* Members.join("team/api", {
        id: "ada",
        value,
        schema: Schema.Struct({ address: Schema.String })
      })
      const lease = Option.getOrThrow(yield* member.lease)
      yield* kv.put("team/raw", new Uint8Array([0xff]), { lease })
      yield* kv.put("team/plain", "no lease")
      const { out } = yield* effectKv(["members", "team/"])
      assert.deepStrictEqual(cells(out).slice(1).map((row) => [row[0], row[1], row.at(-1)]), [
        ["team/api", "ada", `{"address":"10.0.0.7"}`],
        ["team", "raw", "(1 bytes)"]
      ])
      const { members } = yield* json(["members", "team/"])
      assert.deepInclude(members[0], { group: "team/api", id: "ada", value: `{"address":"10.0.0.7"}`, ttlSeconds: 10 })
      assert.deepInclude(members[1], { base64: "/w==", lease: lease.toString(16) })
      yield* kv.delete("team/raw")
    }))

  it.effect("sessions shows for each lease what it holds, waits for and keeps", () =>
    Effect.gen(function*() {
      yield* DistLock.acquire("who/a", { description: "worker", ttl: "31 seconds" })
      const other = yield* otherClient
      const blocker = yield* DistLock.acquire("who/b").pipe(Effect.provide(other))
      yield* enter("who/b/", 2, DistLock.acquire("who/b", { ttl: "31 seconds" }))
      const { sessions } = yield* json(["sessions", "who/"])
      assert.lengthOf(sessions, 2)
      const own = sessions.find((session: { readonly ttlSeconds: number }) => session.ttlSeconds === 31)
      assert.deepInclude(own, { holds: ["who/a"], waitsFor: ["who/b"], keys: [], descriptions: ["worker"] })
      const blocking = sessions.find((session: { readonly lease: string }) =>
        session.lease === blocker.key.slice("who/b/".length)
      )
      assert.deepInclude(blocking, { holds: ["who/b"], waitsFor: [] })
      const { out } = yield* effectKv(["sessions", "who/"])
      assert.includeMembers(cells(out).map((row) => row[2]), ["who/a", "who/b"])
    }))

  it.effect("An empty listing says so, and is not a failure", () =>
    Effect.gen(function*() {
      const { code, out } = yield* effectKv(["locks", "nothing/"])
      assert.deepStrictEqual([code, out], [0, "no locks under nothing/\n"])
      assert.deepStrictEqual((yield* json(["sessions", "nothing/"])).sessions, [])
    }))

  it.effect("A prefix of the store confines what is shown", () =>
    Effect.gen(function*() {
      yield* DistLock.acquire("space/one/nightly")
      yield* DistLock.acquire("space/two/nightly")
      const { locks } = yield* json(["locks", "--prefix", "space/one/"])
      assert.deepStrictEqual(locks.map(({ name }: { readonly name: string }) => name), ["nightly"])
    }))

  it.effect("locks --watch --json prints each change as a line of JSON", () =>
    Effect.gen(function*() {
      const output = new Output()
      const lines = () =>
        output.out.trimEnd().split("\n").map((line) =>
          JSON.parse(line).locks.map((
            { holders }: { readonly holders: ReadonlyArray<{ readonly description: string }> }
          ) => holders[0]!.description).join()
        )
      const until = (expected: ReadonlyArray<string>) =>
        Effect.callback<void>((resume) => {
          output.onChange = () => {
            if (output.out.endsWith("\n") && expected.every((each) => lines().includes(each))) resume(Effect.void)
          }
          output.onChange()
        })
      const watching = yield* Effect.forkScoped(effectKv(["locks", "changes/", "--watch", "--json"], {}, output))
      yield* until([""])
      const scope = yield* Scope.make()
      yield* DistLock.acquire("changes/nightly", { description: "a" }).pipe(Scope.provide(scope))
      yield* until(["a"])
      const other = yield* otherClient
      yield* enter("changes/", 2, DistLock.acquire("changes/nightly", { description: "b" }).pipe(Effect.provide(other)))
      yield* Scope.close(scope, Exit.void)
      yield* until(["", "a", "b"])
      yield* Fiber.interrupt(watching)
    }))

  it.effect("release without a token changes nothing, and says who holds it and what to run", () =>
    Effect.gen(function*() {
      const lock = yield* DistLock.acquire("free/none", { description: "worker a" })
      const { code, err } = yield* effectKv(["release", "free/none"])
      assert.strictEqual(code, 64)
      assert.include(err, `held by token ${lock.token}, worker a`)
      assert.include(err, `effect-kv release free/none --token ${lock.token}`)
      assert.isTrue(yield* lock.isHeld)
    }))

  it.effect("A key that blocks a lock without waiters is named, and its value is not shown", () =>
    Effect.gen(function*() {
      const kv = yield* Kv.Kv
      yield* kv.put("blocked/config", "s3cr3t")
      const withToken = yield* effectKv(["release", "blocked", "--token", "1"])
      const without = yield* effectKv(["release", "blocked"])
      const waiting = yield* effectKv(["lock", "blocked", "--acquire-timeout", "0", "--", "true"])
      assert.include(
        withToken.out,
        "the key blocked/config blocks it as a lock. To remove that: effect-kv delete blocked/config"
      )
      assert.include(without.err, "has no holder to release: the key blocked/config blocks it as a lock")
      assert.include(waiting.err, "held by (the key blocked/config has no lease)")
      for (const { err, out } of [withToken, without, waiting]) assert.notInclude(`${out}${err}`, "s3cr3t")
      yield* kv.delete("blocked/config")
    }))

  it.effect("The description of the holder cannot send escape sequences to the terminal of a waiting command", () =>
    Effect.gen(function*() {
      yield* DistLock.acquire("escape/busy", { description: "\x1b[2Jgone" })
      const { err } = yield* effectKv(["lock", "escape/busy", "--acquire-timeout", "0", "--", "true"])
      assert.include(err, "gone")
      assert.notInclude(err, "\x1b")
    }))

  it.effect("release removes the holder with the token: it is interrupted, and the next waiter holds", () =>
    Effect.gen(function*() {
      const running = yield* enter(
        "free/nightly/",
        1,
        DistLock.use("free/nightly", () => Effect.never, { description: "worker a" }).pipe(Effect.exit)
      )
      const other = yield* otherClient
      const waiting = yield* enter(
        "free/nightly/",
        2,
        DistLock.acquire("free/nightly", { description: "worker b" }).pipe(Effect.provide(other))
      )
      const { locks } = yield* json(["locks", "free/nightly"])
      const { token } = locks[0].holders[0]
      const { code, out } = yield* effectKv(["release", "free/nightly", "--token", token])
      assert.strictEqual(code, 0)
      assert.match(out, /removed the holder of "free\/nightly": token \d+, worker a \(lease: \d+s of 10s\)/)
      assert.match(out, /now held by: token \d+, worker b/)
      const exit = yield* Fiber.join(running)
      assert.isTrue(Exit.isFailure(exit) && String(exit.cause).includes("LockLost"))
      const next = yield* Fiber.join(waiting)
      // The token was the former holder's: nothing happens to the new one.
      const again = yield* effectKv(["release", "free/nightly", "--token", token])
      assert.strictEqual(again.code, 1)
      assert.include(again.out, `nothing was changed: no contender for "free/nightly" has the token ${token}`)
      assert.include(again.out, `held by token ${next.token}, worker b`)
      assert.isTrue(yield* next.isHeld)
    }))

  it.effect("A contender that has left is not removed, even if its client has created the key again", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const gone = yield* DistLock.acquire("free/again").pipe(Scope.provide(scope))
      yield* Scope.close(scope, Exit.void)
      const lock = yield* DistLock.acquire("free/again")
      assert.strictEqual(lock.key, gone.key)
      assert.isFalse(yield* remove(gone))
      assert.isTrue(Option.contains(Option.map(yield* DistLock.holder("free/again"), ({ token }) => token), lock.token))
      assert.isTrue(yield* remove(lock))
      assert.deepStrictEqual(yield* DistLock.holder("free/again"), Option.none())
    }))

  it.effect("release removes a waiter, or a semaphore's holder, and says what the client keeps", () =>
    Effect.gen(function*() {
      const semaphore = yield* DistSemaphore.make("free/load", { permits: 1 })
      const held = yield* semaphore.acquire(1, { description: "worker" })
      const kept = yield* DistLock.acquire("free/kept")
      const waiting = yield* enter("free/load/", 3, semaphore.acquire(1, { ttl: "20 seconds" }).pipe(Effect.exit))
      const { locks } = yield* json(["locks", "free/load"])
      const waiter = yield* json(["release", "free/load", "--token", locks[0].waiters[0].token])
      assert.deepInclude(waiter.released, { wasHolder: false })
      assert.isTrue(Exit.isFailure(yield* Fiber.join(waiting)))
      const holder = yield* json(["release", "free/load", "--token", `${held.token}`])
      assert.deepInclude(holder.released, { wasHolder: true, description: "worker" })
      assert.deepStrictEqual([holder.nextHolders, holder.otherKeysOfItsLease], [[], [kept.key]])
    }))

  it.effect("Without a server, the listings fail with the exit code for an unreachable store", () =>
    Effect.gen(function*() {
      const { code, err } = yield* effectKv(["locks", "--url", "http://127.0.0.1:1", "--timeout", "300ms"])
      assert.strictEqual(code, 69)
      assert.include(err, "127.0.0.1:1")
    }))
})
