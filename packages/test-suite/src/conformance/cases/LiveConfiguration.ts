/**
 * Live configuration: values that follow the store, and that no mistake in it and no failure of it can end.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import * as KvConfig from "@effect-kv/core/KvConfig"
import * as KvError from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import { assert } from "@effect/vitest"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as KvFaults from "../../testing/KvFaults.ts"
import { chapter, promptly, Store, test, waitingTest, waitUntil } from "./Case.ts"
import { write } from "./Configuration.ts"
import { on } from "./locking.ts"
import * as logging from "./logging.ts"

const configOf = (kv: Kv.Kv, prefix = "config/") => on(kv)(KvConfig.make(prefix))

/** The first state for which the predicate holds. */
const stateWhen = <A>(live: KvConfig.Live<A>, what: string, is: (state: KvConfig.State<A>) => boolean) =>
  promptly(what, Effect.map(Stream.runHead(Stream.filter(live.states, is)), Option.getOrThrow))

const isRejected = ({ rejected }: KvConfig.State<unknown>): boolean => Option.isSome(rejected)

const isCurrent = ({ staleSince }: KvConfig.State<unknown>): boolean => Option.isNone(staleSince)

const messageOf = ({ rejected }: KvConfig.State<unknown>): string => Option.getOrThrow(rejected).message

export const cases = chapter("configuration", [
  test("a live value follows the store, and settings that were written together change together", function*(kv) {
    const both = (n: number) => write(kv, { "config/a": `${n}`, "config/b": `${n}` })
    yield* both(0)
    const config = yield* configOf(kv)
    const pair = Config.all([Config.Int("a"), Config.Int("b")])
    const live = yield* config.ref(pair)
    assert.deepStrictEqual(yield* live.get, [0, 0])
    const following = yield* Effect.forkChild(
      Stream.runCollect(Stream.takeUntil(config.changes(pair), ([a]) => a === 40)),
      { startImmediately: true }
    )
    for (let n = 1; n <= 40; n++) yield* both(n)
    const seen = yield* promptly("the last of 40", Fiber.join(following))
    for (const [a, b] of seen) assert.strictEqual(a, b)
    assert.deepStrictEqual(seen, seen.toSorted(([a], [b]) => a - b))
    const { revision } = yield* stateWhen(live, "the last", ({ value: [a] }) => a === 40)
    assert.strictEqual(revision, Option.getOrThrow(yield* kv.getEntry("config/a")).modRevision)
  }),

  test("the last good value stays in use until the configuration is good again", function*(kv) {
    yield* write(kv, { "config/limit": "10", "config/name": "a" })
    const config = yield* configOf(kv)
    const live = yield* config.ref(Config.all({ limit: Config.Int("limit"), name: Config.String("name") }))
    const good = yield* live.get
    const { revision } = yield* write(kv, { "config/limit": "many", "config/name": "b" })
    const bad = yield* stateWhen(live, "the bad limit", isRejected)
    assert.deepStrictEqual(bad.value, { limit: 10, name: "a" })
    assert.strictEqual(yield* live.get, good)
    assert.strictEqual(Option.getOrThrow(bad.rejected).revision, revision)
    assert.include(messageOf(bad), "limit: expected")
    assert.isTrue(bad.revision < revision)

    const deleted = yield* kv.deleteRange(KeyRange.key("config/limit"))
    const missing = yield* stateWhen(
      live,
      "the missing limit",
      ({ rejected }) => Option.exists(rejected, ({ revision }) => revision === deleted.revision)
    )
    assert.strictEqual(messageOf(missing), "limit: missing")
    assert.strictEqual(missing.value, good)

    const { revision: last } = yield* write(kv, { "config/limit": "20" })
    const again = yield* stateWhen(live, "the good limit", (state) => !isRejected(state))
    assert.deepStrictEqual({ ...again }, {
      value: { limit: 20, name: "b" },
      revision: last,
      rejected: Option.none(),
      staleSince: Option.none()
    })
  }),

  test("a configuration that is bad at the start is a failure, and so is one that cannot be read", function*(kv) {
    yield* write(kv, { "config/limit": "many" })
    const config = yield* configOf(kv)
    const limit = Config.Int("limit")
    const failures = [config.get(limit), Effect.scoped(config.ref(limit)), Stream.runDrain(config.changes(limit))]
    for (const failing of failures) {
      assert.strictEqual(
        (yield* Effect.flip(Effect.asVoid<unknown, Config.ConfigError, never>(failing)))._tag,
        "ConfigError"
      )
    }
    const faults = yield* KvFaults.make(backendOf(kv))
    yield* faults.inject(KvFaults.unavailable, { times: 2 })
    const error = yield* Effect.flip(Effect.scoped(configOf(faults.kv)))
    assert.isTrue(KvError.isKvError(error))
  }),

  test("a deleted setting is its default, if the config has one", function*(kv) {
    yield* write(kv, { "config/limit": "20" })
    const config = yield* configOf(kv)
    const live = yield* config.ref(Config.withDefault(Config.Int("limit"), 10))
    assert.strictEqual(yield* live.get, 20)
    yield* kv.delete("config/limit")
    yield* stateWhen(live, "the default", ({ value }) => value === 10)
    yield* write(kv, { "config/limit": "many" })
    // A default is for what is absent, not for what is wrong.
    assert.strictEqual((yield* stateWhen(live, "the bad limit", isRejected)).value, 10)
  }),

  test("values change only with the settings that the config reads", function*(kv) {
    yield* write(kv, { "config/url": "http://a.example/", "config/end": "0" })
    const config = yield* configOf(kv)
    const url = yield* config.ref(Config.URL("url"))
    const first = yield* url.get
    const following = yield* Effect.forkChild(
      Stream.runCollect(Stream.takeUntil(url.changes, ({ host }) => host === "c.example")),
      { startImmediately: true }
    )
    const end = yield* config.ref(Config.Int("end"))
    yield* write(kv, { "config/url": "http://a.example/", "config/end": "1" })
    const { revision } = yield* stateWhen(end, "another setting", ({ value }) => value === 1)
    yield* stateWhen(url, "the revision", (state) => state.revision === revision)
    assert.strictEqual(yield* url.get, first)
    yield* write(kv, { "config/url": "nowhere" })
    assert.strictEqual(messageOf(yield* stateWhen(url, "the bad url", isRejected)), "url: expected URL")
    yield* write(kv, { "config/url": "http://a.example/" })
    yield* stateWhen(url, "the good url", (state) => !isRejected(state))
    assert.strictEqual(yield* url.get, first)
    yield* write(kv, { "config/url": "http://c.example/" })
    const seen = yield* promptly("the other url", Fiber.join(following))
    assert.deepStrictEqual(seen.map(({ host }) => host), ["a.example", "c.example"])
  }),

  test("a message names the place, also in what another provider has", function*(kv) {
    yield* write(kv, { "config/limits/0": "1", "config/limits/1": "2", "config/ok": "true" })
    const config = yield* on(kv)(KvConfig.make("config/", {
      transform: (store) =>
        ConfigProvider.orElse(store, ConfigProvider.fromUnknown({ limits: ["1", "many"], ok: "perhaps" }))
    }))
    const limits = yield* config.ref(Config.Array(Schema.Int, "limits"))
    const ok = yield* config.ref(Config.Boolean("ok"))
    const alone = yield* Effect.flatMap(configOf(kv), (config) => config.ref(Config.Array(Schema.Int, "limits")))
    yield* kv.delete("config/limits/0")
    assert.include(messageOf(yield* stateWhen(alone, "the gap", isRejected)), "limits/0: missing")
    yield* kv.deleteRange(KeyRange.prefix("config/"))
    assert.match(messageOf(yield* stateWhen(limits, "the bad limits", isRejected)), /limits\/1: expected a string/)
    assert.match(messageOf(yield* stateWhen(ok, "the bad ok", isRejected)), /^ok: expected /)
  }),

  test("neither logs nor states nor their JSON contain a value that was rejected", function*(kv) {
    const secret = "hunter2"
    const { layer, logged } = logging.capturing()
    const Limits = Config.Record(Schema.String, Schema.Int, "limits")
    const Database = Config.schema(
      Schema.Struct({ port: Schema.Int, user: Schema.Literals(["reader", "writer"]) }),
      "database"
    )
    const password = Config.mapEffect(Config.Redacted("password"), (password) =>
      Redacted.value(password).length > 8
        ? Effect.succeed(password)
        : Effect.fail(
          new Config.ConfigError(
            new Schema.SchemaError(
              new SchemaIssue.InvalidValue({ message: `${Redacted.value(password)} is too short` })
            )
          )
        ))
    const thrown = Config.map(Config.String("thrown"), (text) => {
      if (text === secret) throw new Error(text)
      return text
    })
    yield* write(kv, {
      "config/limits": "a=1",
      "config/database/port": "1",
      "config/database/user": "reader",
      "config/password": "long enough",
      "config/thrown": "no"
    })
    const bad: Record<string, string | Uint8Array> = {
      "config/limits": `${secret}=${secret}`,
      "config/database/port": secret,
      "config/database/user": secret,
      "config/password": secret,
      "config/thrown": secret
    }
    yield* Effect.gen(function*() {
      const config = yield* configOf(kv)
      const lives = {
        limits: yield* config.ref(Limits),
        database: yield* config.ref(Database),
        password: yield* config.ref(password),
        thrown: yield* config.ref(thrown)
      }
      assert.notInclude(JSON.stringify(yield* lives.database.state), "reader")
      yield* write(kv, bad)
      const all = yield* Effect.forEach(
        Object.values(lives),
        (live: KvConfig.Live<unknown>) => stateWhen(live, "the bad one", isRejected)
      )
      const [limits, database, , exception] = all.map(messageOf)
      assert.match(limits!, /limits\/\*: expected/)
      assert.match(database!, /^database\/port: expected /)
      assert.match(exception!, /exception/)
      for (const state of all) {
        assert.deepInclude(JSON.parse(JSON.stringify(state)), { revision: `${state.revision}`, staleSince: null })
        assert.notInclude(JSON.stringify(state), secret)
      }
      yield* write(kv, { "config/thrown": new Uint8Array([0xff, ...new TextEncoder().encode(secret)]) })
      const bytes = yield* stateWhen(lives.thrown, "the bytes", (state) => messageOf(state).includes("UTF-8"))
      assert.include(messageOf(bytes), `"config/thrown"`)
    }).pipe(Effect.provide(layer))
    const lines = logged.filter(({ message }) => message.includes("rejected"))
    assert.strictEqual(lines.length, 5)
    assert.notInclude(JSON.stringify(logged), secret)
    for (const { annotations, level } of lines) {
      assert.strictEqual(level, "Warn")
      assert.strictEqual(annotations["prefix"], "config/")
    }
  }),

  test("a problem is logged once, and once more when it is solved", function*(kv) {
    const { layer, logged } = logging.capturing()
    yield* write(kv, { "config/limit": "1", "config/end": "0" })
    yield* Effect.gen(function*() {
      const config = yield* configOf(kv)
      const live = yield* config.ref(Config.Int("limit"))
      for (const [end, limit] of ["many", "more", "most", "2"].entries()) {
        const { revision } = yield* write(kv, { "config/limit": limit, "config/end": `${end}` })
        yield* stateWhen(
          live,
          limit,
          (state) =>
            Option.match(state.rejected, { onNone: () => state.revision, onSome: ({ revision }) => revision }) ===
              revision
        )
      }
    }).pipe(Effect.provide(layer))
    assert.deepStrictEqual(logged.map(({ level }) => level), ["Warn", "Info"])
  }),

  test("in an outage the last value stays in use, and is reported as stale until the store is back", function*(kv) {
    yield* write(kv, { "config/limit": "1" })
    const faults = yield* KvFaults.make(backendOf(kv))
    const config = yield* configOf(faults.kv)
    const live = yield* config.ref(Config.Int("limit"))
    yield* faults.partition()
    yield* stateWhen(live, "the cut", (state) => !isCurrent(state))
    const { revision } = yield* write(kv, { "config/limit": "2" })
    assert.strictEqual(yield* live.get, 1)
    assert.strictEqual(yield* config.get(Config.Int("limit")), 1)
    yield* faults.heal
    const back = yield* stateWhen(live, "the store", (state) => state.value === 2 && isCurrent(state))
    assert.strictEqual(back.revision, revision)
  }),

  test("a compaction during an outage is survived", function*(kv) {
    const store = yield* Store
    yield* write(kv, { "config/limit": "1", "config/gone": "1" })
    const faults = yield* KvFaults.make(backendOf(kv))
    const config = yield* configOf(faults.kv)
    const live = yield* config.ref(Config.all([Config.Int("limit"), Config.option(Config.Int("gone"))]))
    const held = yield* faults.hold("request", { when: (call) => call.kind === "watch" })
    yield* faults.cutWatches({ failure: new KvError.Compacted({ compactRevision: Option.none() }) })
    yield* held.reached
    yield* kv.delete("config/gone")
    const { revision } = yield* write(kv, { "config/limit": "2" })
    yield* store.compact(revision)
    yield* held.letGo
    const state = yield* stateWhen(live, "what was missed", ({ value: [limit] }) => limit === 2)
    assert.deepStrictEqual(state.value, [2, Option.none()])
  }),

  waitingTest("a revoked permission ends no live value: it is followed again once it is granted", function*(kv) {
    const { layer, logged } = logging.capturing()
    yield* Effect.gen(function*() {
      yield* write(kv, { "config-revoked/limit": "1" })
      const faults = yield* KvFaults.make(backendOf(kv))
      const config = yield* configOf(faults.kv, "config-revoked/")
      const live = yield* config.ref(Config.Int("limit"))
      const denied = new KvError.PermissionDenied({ message: "a test fault" })
      yield* faults.inject(KvFaults.unavailable, { when: (call) => call.kind === "watch", times: 1 })
      yield* faults.cutWatches({ failure: denied })
      yield* stateWhen(live, "the loss", (state) => !isCurrent(state))
      yield* write(kv, { "config-revoked/limit": "2" })
      assert.strictEqual(yield* live.get, 1)
      yield* waitUntil("it is followed again", Effect.map(live.get, (limit) => limit === 2))
      yield* stateWhen(live, "no longer stale", isCurrent)
    }).pipe(Effect.provide(layer))
    assert.deepStrictEqual(logged.map(({ level }) => level), ["Warn", "Info"])
  }),

  test("after the scope is closed, values are stale, and streams end", function*(kv) {
    yield* write(kv, { "config/limit": "1" })
    const limit = Config.Int("limit")
    for (const closes of ["configuration", "value"] as const) {
      const outer = yield* Scope.make()
      const inner = yield* Scope.make()
      const config = yield* Scope.provide(configOf(kv), outer)
      const live = yield* Scope.provide(config.ref(limit), inner)
      const following = yield* Effect.forkChild(
        Effect.all([Stream.runCollect(live.changes), Stream.runCount(live.states)], { concurrency: 2 }),
        { startImmediately: true }
      )
      yield* stateWhen(live, "the start", isCurrent)
      yield* Scope.close(closes === "configuration" ? outer : inner, Exit.void)
      assert.deepStrictEqual((yield* promptly("the end of the streams", Fiber.join(following)))[0], [1])
      assert.strictEqual(yield* live.get, 1)
      assert.isFalse(isCurrent(yield* live.state))
      yield* Scope.close(outer, Exit.void)
    }
  })
])
