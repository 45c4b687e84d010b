/**
 * Our election, Go's `concurrency.Election` and `etcdctl elect` of the same name are one election: order, values,
 * proclamations, observers and losses, in both directions.
 */
import * as Election from "@effect-kv/core/Election"
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import type * as GoClient from "@effect-kv/interop/GoClient"
import { assert, describe, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import { EtcdCluster, go, on, ours, server, stillRuns, until } from "./support/clients.ts"

const textOf = ({ value }: GoClient.Entry): string => new TextDecoder().decode(value)

const candidates = (kv: Kv.Kv, name: string) =>
  Effect.map(on(kv)(Election.candidates(name)), (all) => all.map(({ value }) => value))

const untilCandidates = (kv: Kv.Kv, name: string, ...expected: ReadonlyArray<string>) =>
  until(
    `the candidates of ${name} are ${expected.join()}`,
    Effect.map(candidates(kv, name), (found) => found.join() === expected.join())
  )

/** Records each leader that we see as its value, and each vacancy as `none`. */
const observing = Effect.fnUntraced(function*(kv: Kv.Kv, name: string) {
  const seen: Array<string> = []
  yield* Election.observe(name).pipe(
    Stream.map(Option.match({ onNone: () => "none", onSome: ({ value }) => value })),
    Stream.runForEach((value) => Effect.sync(() => seen.push(value))),
    on(kv),
    Effect.forkScoped
  )
  yield* until("the first state is seen", Effect.sync(() => seen.length > 0))
  return seen
})

layer(server, { excludeTestServices: true, timeout: "2 minutes" })((it) => {
  describe("elections with Go", () => {
    it.effect("Go waits while we lead, sees our value and proclamation, and leads after our resignation", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const session = yield* (yield* go()).session({ ttl: 60 })
        const leadership = yield* on(kv)(Election.campaign("go-waits", { value: "ours" }))
        const seen = yield* session.leader("go-waits")
        assert.deepStrictEqual([seen.key, textOf(seen)], [leadership.key, "ours"])
        const theirs = yield* Effect.forkScoped(session.campaign("go-waits", "theirs"))
        yield* untilCandidates(kv, "go-waits", "ours", "theirs")
        yield* leadership.proclaim("ours, again")
        assert.strictEqual(textOf(yield* session.leader("go-waits")), "ours, again")
        assert.isTrue(yield* stillRuns(kv, theirs))
        yield* leadership.resign
        const held = yield* Fiber.join(theirs)
        assert.strictEqual(held.key, `go-waits/${session.lease.toString(16)}`)
        assert.isTrue(held.token > leadership.token)
        const leader = Option.getOrThrow(yield* on(kv)(Election.leader("go-waits")))
        assert.deepStrictEqual([leader.key, leader.token, leader.value, leader.lease], [
          held.key,
          held.token,
          "theirs",
          Option.some(session.lease)
        ])
      }))

    it.effect("we wait while Go leads, see its proclamation, and lead after its resignation", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const session = yield* (yield* go()).session({ ttl: 60 })
        const held = yield* session.campaign("we-wait", "theirs")
        const waiting = yield* Effect.forkScoped(
          on(kv)(Election.use("we-wait", ({ token }) => Effect.succeed(token), { value: "ours" }))
        )
        yield* untilCandidates(kv, "we-wait", "theirs", "ours")
        yield* session.proclaim("we-wait", "theirs, again")
        yield* untilCandidates(kv, "we-wait", "theirs, again", "ours")
        assert.isTrue(yield* stillRuns(kv, waiting))
        yield* session.resign("we-wait")
        assert.isTrue((yield* Fiber.join(waiting)) > held.token)
        yield* until("nothing is left", Effect.map(kv.count(KeyRange.prefix("we-wait/")), (count) => count === 0))
      }))

    it.effect("a candidate of ours that proclaims while it waits keeps its place between two of Go", () =>
      Effect.gen(function*() {
        const name = "proclaims-in-between"
        const kv = yield* ours()
        const ahead = yield* (yield* go()).session({ ttl: 60 })
        yield* ahead.campaign(name, "ahead")
        const candidacy = yield* on(kv)(Election.enter(name, { value: "ours" }))
        const behind = yield* (yield* go()).session({ ttl: 60 })
        const theirs = yield* Effect.forkScoped(behind.campaign(name, "behind"))
        yield* untilCandidates(kv, name, "ahead", "ours", "behind")
        yield* candidacy.proclaim("ours, again")
        assert.strictEqual(textOf(yield* behind.leader(name)), "ahead")
        yield* ahead.resign(name)
        const leadership = yield* candidacy.elected
        assert.strictEqual(leadership.token, candidacy.token)
        const seen = yield* behind.leader(name)
        assert.deepStrictEqual([seen.key, textOf(seen)], [candidacy.key, "ours, again"])
        assert.isTrue(yield* stillRuns(kv, theirs))
        yield* candidacy.leave
        assert.isTrue((yield* Fiber.join(theirs)).token > leadership.token)
      }))

    it.effect(
      "candidates of both sides lead in the order they came, and an observer of ours sees each",
      () =>
        Effect.gen(function*() {
          const name = "order"
          const kv = yield* ours()
          const seen = yield* observing(kv, name)
          const led: Array<string> = []
          const campaign = Effect.fnUntraced(function*(value: string, side: "ours" | "go") {
            const proceed = yield* Deferred.make<void>()
            const work = Effect.andThen(Effect.sync(() => led.push(value)), Deferred.await(proceed))
            if (side === "ours") {
              yield* Effect.forkScoped(on(yield* ours())(Election.use(name, () => work, { value })))
            } else {
              const session = yield* (yield* go()).session({ ttl: 60 })
              yield* Effect.forkScoped(
                session.campaign(name, value).pipe(Effect.andThen(work), Effect.andThen(session.resign(name)))
              )
            }
            yield* until(
              `${value} is a candidate`,
              Effect.map(candidates(kv, name), (all) => all.includes(value))
            )
            return Deferred.succeed(proceed, undefined)
          })
          const sides = ["ours", "go", "go", "ours", "go", "ours"] as const
          const names = sides.map((side, i) => `${i} ${side}`)
          const ends = yield* Effect.forEach(sides, (side, i) => campaign(names[i]!, side))
          for (const [i, end] of ends.entries()) {
            yield* until(`${names[i]} leads`, Effect.sync(() => led.length > i))
            assert.deepStrictEqual(led, names.slice(0, i + 1))
            yield* end
          }
          yield* until("the vacancy is seen", Effect.sync(() => seen.length === names.length + 2))
          assert.deepStrictEqual(seen, ["none", ...names, "none"])
        }),
      60_000
    )

    it.effect("our observer sees Go's leader, proclamation and vacancy, and Go's observer sees ours", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const session = yield* (yield* go()).session({ ttl: 60 })
        const seen = yield* observing(kv, "observed")
        yield* session.campaign("observed", "theirs")
        yield* session.proclaim("observed", "theirs, again")
        yield* session.resign("observed")
        yield* until("the vacancy is seen", Effect.sync(() => seen.length === 4))
        assert.deepStrictEqual(seen, ["none", "theirs", "theirs, again", "none"])

        const watcher = yield* (yield* go()).session({ ttl: 60 })
        const leaders = yield* watcher.observe("observed")
        const next = Effect.map(Queue.take(leaders), textOf)
        const leadership = yield* on(kv)(Election.campaign("observed", { value: "ours" }))
        assert.strictEqual(yield* next, "ours")
        yield* leadership.proclaim("ours, again")
        assert.strictEqual(yield* next, "ours, again")
      }))

    it.effect("the revocation of our leader's lease lets Go lead, and our body is interrupted", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const client = yield* go()
        const session = yield* client.session({ ttl: 60 })
        const leading = yield* Effect.forkScoped(
          Effect.flip(on(kv)(Election.use("loss", () => Effect.never, { value: "ours" })))
        )
        yield* untilCandidates(kv, "loss", "ours")
        const theirs = yield* Effect.forkScoped(session.campaign("loss", "theirs"))
        yield* untilCandidates(kv, "loss", "ours", "theirs")
        const leader = Option.getOrThrow(yield* on(kv)(Election.leader("loss")))
        yield* client.revoke(Option.getOrThrow(leader.lease))
        yield* Fiber.join(theirs)
        assert.strictEqual((yield* Fiber.join(leading))._tag, "LockLost")
        assert.deepStrictEqual(yield* candidates(kv, "loss"), ["theirs"])
      }))
  })

  describe("elections with etcdctl", () => {
    it.effect("etcdctl elect waits while we lead, and leads with its value after our resignation", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const { etcdctl } = yield* EtcdCluster.EtcdCluster
        const seen = yield* observing(kv, "ctl")
        const leadership = yield* on(kv)(Election.campaign("ctl", { value: "ours" }))
        yield* Effect.forkScoped(etcdctl(["elect", "ctl", "etcdctl"]))
        yield* untilCandidates(kv, "ctl", "ours", "etcdctl")
        yield* leadership.resign
        yield* until("etcdctl leads", Effect.sync(() => seen.length === 3))
        assert.deepStrictEqual(seen, ["none", "ours", "etcdctl"])
        const waiting = yield* Effect.forkScoped(on(kv)(Election.use("ctl", () => Effect.void)))
        yield* untilCandidates(kv, "ctl", "etcdctl", "")
        assert.isTrue(yield* stillRuns(kv, waiting))
      }))
  })
})
