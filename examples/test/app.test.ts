/**
 * The example application as its processes: alone on memory, and as three replicas on etcd of which one is killed.
 */
import { Election, Kv, Lease } from "@effect-kv/core"
import { EtcdLayer } from "@effect-kv/etcd"
import { EtcdCluster } from "@effect-kv/test-suite/verification"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Api from "../src/app/Api.ts"
import { type Instance, start } from "./support/appProcess.ts"

type Status = typeof Api.Status.Type

/** Repeats an effect until its result satisfies the predicate, for at most 20 seconds. */
const until = <A, E>(what: string, effect: Effect.Effect<A, E>, is: (a: A) => boolean): Effect.Effect<A, E> =>
  Effect.repeat(Effect.delay(effect, "20 millis"), { until: is }).pipe(
    Effect.timeoutOrElse({ duration: "20 seconds", orElse: () => Effect.die(new Error(`did not happen: ${what}`)) })
  )

/** The status of each instance, once all of them satisfy the predicate. */
const all = (what: string, instances: ReadonlyArray<Instance>, is: (status: Status) => boolean) =>
  Effect.forEach(instances, ({ api }) => until(what, api.status(), is), { concurrency: "unbounded" })

const namesOf = (status: Status) => Object.keys(status.instances).toSorted()

const link = (code: string) => ({ payload: { code, url: `https://example.com/${code}` } })

/** The tag of the failure, or `"ok"`. */
const tagOf = <A, E extends { readonly _tag: string }>(effect: Effect.Effect<A, E>) =>
  Effect.match(effect, { onFailure: ({ _tag }) => _tag, onSuccess: () => "ok" })

describe("the example application", { concurrent: true, timeout: 60_000 }, () => {
  it.live("serves alone, on memory, and ends at SIGTERM", () =>
    Effect.gen(function*() {
      const only = yield* start("only", { linksPerMinute: "3", banner: "hello" })
      yield* only.api.live()
      yield* only.api.ready()
      const created = yield* only.api.links.create(link("docs"))
      assert.deepStrictEqual(created, { url: "https://example.com/docs", createdBy: "only" })
      assert.deepStrictEqual(yield* only.api.links.find({ params: { code: "docs" } }), created)
      assert.deepStrictEqual(yield* only.api.links.list(), { docs: created })
      assert.strictEqual(yield* tagOf(only.api.links.find({ params: { code: "none" } })), "LinkNotFound")
      assert.strictEqual(yield* tagOf(only.api.links.create(link("docs"))), "LinkTaken")
      assert.strictEqual(yield* tagOf(only.api.links.create(link("more"))), "ok")
      const tooMany = yield* Effect.flip(only.api.links.create(link("most")))
      assert.isTrue(tooMany._tag === "TooManyLinks" && tooMany.retryAfterSeconds <= 60)
      const [status] = yield* all("the leader has counted", [only], ({ statistics }) => statistics?.links === 2)
      assert.deepStrictEqual(status, {
        instance: "only",
        leader: "only",
        instances: { only: only.url },
        settings: { linksPerMinute: 3, banner: "hello" },
        rejectedSettings: null,
        statistics: { links: 2, countedBy: "only" }
      })
      yield* only.child.kill({ killSignal: "SIGTERM" })
      assert.notMatch(only.output.join("\n"), /ERROR|WARN/)
    }).pipe(Effect.provide(NodeServices.layer)))

  it.live("three replicas on etcd share links, settings and a limit, and survive the death of their leader", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.make()
      const KV_URL = cluster.endpoints[0]!
      const replicas = yield* Effect.forEach(
        ["a", "b", "c"],
        (name) => start(name, { KV_URL, INSTANCE_TTL: "2 seconds" }),
        { concurrency: "unbounded" }
      )
      const kv = Context.get(yield* Layer.build(EtcdLayer.layer({ endpoints: cluster.endpoints })), Kv.Kv)
      const setting = (name: string, value: string) => kv.put(`examples/app/config/${name}`, value)
      const [one, two, three] = replicas as [Instance, Instance, Instance]

      const statuses = yield* all("three are listed", replicas, (status) => namesOf(status).length === 3)
      const addresses = Object.fromEntries(replicas.map(({ name, url }) => [name, url]))
      for (const status of statuses) {
        assert.deepStrictEqual(status.instances, addresses)
        assert.strictEqual(status.leader, statuses[0]!.leader)
      }

      const created = yield* one.api.links.create(link("docs"))
      assert.deepStrictEqual(yield* two.api.links.find({ params: { code: "docs" } }), created)
      assert.strictEqual(yield* tagOf(three.api.links.create(link("docs"))), "LinkTaken")

      yield* setting("linksPerMinute", "5")
      yield* all("the new limit", replicas, ({ settings }) => settings.linksPerMinute === 5)
      const outcomes = yield* Effect.forEach(
        Array.from({ length: 15 }, (_, i) => i),
        (i) => tagOf(replicas[i % 3]!.api.links.create(link(`link-${i}`))),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(outcomes.filter((tag) => tag === "ok").length, 5)
      assert.strictEqual(outcomes.filter((tag) => tag === "TooManyLinks").length, 10)
      yield* setting("linksPerMinute", "many")
      const rejected = yield* all("the bad limit", replicas, ({ rejectedSettings }) => rejectedSettings !== null)
      for (const { rejectedSettings, settings } of rejected) {
        assert.strictEqual(settings.linksPerMinute, 5)
        assert.match(rejectedSettings!, /^linksPerMinute: expected/)
      }
      yield* setting("linksPerMinute", "1000")
      yield* all("the good limit", replicas, ({ rejectedSettings }) => rejectedSettings === null)

      const leader = replicas.find(({ name }) => name === statuses[0]!.leader)!
      const others = replicas.filter((replica) => replica !== leader)
      const rounds = new Map(others.map(({ name }) => [name, 0]))
      const requesting = yield* Effect.forEach(
        others,
        Effect.fnUntraced(function*({ api, name }) {
          yield* api.links.create(link(`during-${name}-${rounds.get(name)}`))
          yield* api.links.find({ params: { code: "docs" } })
          rounds.set(name, rounds.get(name)! + 1)
          yield* Effect.sleep("10 millis")
        }, (effect) => Effect.forever(effect)),
        { concurrency: "unbounded" }
      ).pipe(Effect.forkChild)
      /** Fails as soon as a request to the others fails. */
      const whileRequesting = Effect.raceFirst(Fiber.join(requesting))

      // No other can lead before the dead leader's lease ends. It is renewed until the others have served without a leader.
      const leading = yield* Effect.provideService(Election.leader("examples/app/statistics-leader"), Kv.Kv, kv)
      const lease = Option.getOrThrow(Option.flatMap(leading, (candidate) => candidate.lease))
      const renewing = yield* Effect.provideService(Lease.keepAlive(lease), Kv.Kv, kv).pipe(
        Effect.andThen(Effect.sleep("200 millis")),
        Effect.forever,
        Effect.forkChild
      )
      yield* leader.child.kill({ killSignal: "SIGKILL" })
      const atDeath = new Map(rounds)
      yield* until(
        "each of the others serves ten more rounds while the dead one's leadership lasts",
        Effect.sync(() => others.every(({ name }) => rounds.get(name)! >= atDeath.get(name)! + 10)),
        (served) => served
      ).pipe(whileRequesting)
      yield* Fiber.interrupt(renewing)
      const after = yield* all(
        "another leads and counts, and the dead one is not listed",
        others,
        ({ instances, leader: now, statistics }) =>
          now !== null && now !== leader.name && statistics?.countedBy === now && !(leader.name in instances)
      ).pipe(whileRequesting)
      yield* Fiber.interrupt(requesting)
      assert.deepStrictEqual(namesOf(after[0]!), others.map(({ name }) => name).toSorted())

      const [first, last] = others as [Instance, Instance]
      yield* first.child.kill({ killSignal: "SIGTERM" })
      const [alone] = yield* all("the last one leads", [last], (status) => status.leader === last.name)
      assert.deepStrictEqual(namesOf(alone!), [last.name])

      // Without the store it is alive and not ready.
      yield* cluster.members[0]!.kill
      assert.strictEqual(yield* tagOf(last.api.ready()), "NotReady")
      yield* last.api.live()
      yield* cluster.members[0]!.start
      yield* until("it is ready again", tagOf(last.api.ready()), (tag) => tag === "ok")
      assert.deepStrictEqual(yield* last.api.links.find({ params: { code: "docs" } }), created)
    }).pipe(Effect.provide(NodeServices.layer)))
})
