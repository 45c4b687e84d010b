/**
 * Configuration in the store: what a `Config` reads, and that all it reads is of one revision.
 */
import * as Kv from "@effect-kv/core/Kv"
import * as KvConfig from "@effect-kv/core/KvConfig"
import * as Op from "@effect-kv/core/Op"
import { assert } from "@effect/vitest"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { chapter, rejects, test } from "./Case.ts"
import { on, soon } from "./locking.ts"

/** Writes all keys at one revision. */
export const write = (kv: Kv.Kv, values: Record<string, string | Uint8Array>) =>
  kv.txn({ then: Object.entries(values).map(([key, value]) => Op.put(key, value)) })

/** The layer, on this client. */
const over = <A, E>(kv: Kv.Kv, layer: Layer.Layer<A, E, Kv.Kv>) => Layer.provide(layer, Layer.succeed(Kv.Kv, kv))

const environment = (values: Record<string, string>) => ConfigProvider.layer(ConfigProvider.fromEnv({ env: values }))

export const cases = chapter("configuration", [
  test("slashes in keys separate the names of a path", function*(kv) {
    yield* write(kv, {
      "config/name": "orders",
      "config/database/host": "db-1",
      "config/database/pool/size": "8",
      "configuration": "elsewhere",
      "other/name": "other"
    })
    const provider = yield* on(kv)(KvConfig.provider("config/"))
    const database = Config.all({
      host: Config.String("host"),
      size: Config.nested(Config.Int("size"), "pool")
    })
    assert.deepStrictEqual(yield* Config.nested(database, "database").parse(provider), { host: "db-1", size: 8 })
    const inOne = Config.schema(Schema.Struct({
      name: Schema.String,
      database: Schema.Struct({ host: Schema.String, pool: Schema.Struct({ size: Schema.Int }) })
    }))
    assert.deepStrictEqual(yield* inOne.parse(provider), {
      name: "orders",
      database: { host: "db-1", pool: { size: 8 } }
    })
    assert.strictEqual(yield* Config.String("database/host").parse(provider), "db-1")
    assert.deepStrictEqual(yield* Config.option(Config.String("database")).parse(provider), Option.none())
    assert.deepStrictEqual(yield* Config.option(Config.String("")).parse(provider), Option.none())
    const whole = yield* on(kv)(KvConfig.provider(""))
    assert.strictEqual(yield* Config.nested(Config.String("name"), "other").parse(whole), "other")
  }),

  test("a key can be a value and a folder at once", function*(kv) {
    yield* write(kv, { "config/cache": "redis", "config/cache/ttl": "5 seconds", "config/cache/sizes/0": "1" })
    const provider = yield* on(kv)(KvConfig.provider("config/"))
    assert.strictEqual(yield* Config.String("cache").parse(provider), "redis")
    assert.deepStrictEqual(
      yield* provider.load(["cache"]),
      ConfigProvider.makeRecord(new Set(["sizes", "ttl"]), "redis")
    )
    assert.deepStrictEqual(yield* provider.load(["cache", "sizes"]), ConfigProvider.makeArray(1))
  }),

  test("names 0, 1, 2 are the elements of an array, and a text with commas is one as well", function*(kv) {
    yield* write(kv, {
      "config/hosts/0": "a",
      "config/hosts/1": "b",
      ...Object.fromEntries(Array.from({ length: 11 }, (_, i) => [`config/many/${i}`, `${i}`])),
      "config/text": "a,b",
      "config/gap/0": "a",
      "config/gap/4000000000": "b",
      "config/zeros/00": "a"
    })
    const provider = yield* on(kv)(KvConfig.provider("config/"))
    const array = (name: string) => Config.Array(Schema.String, name)
    assert.deepStrictEqual(yield* array("hosts").parse(provider), ["a", "b"])
    assert.deepStrictEqual(yield* array("many").parse(provider), Array.from({ length: 11 }, (_, i) => `${i}`))
    assert.deepStrictEqual(yield* array("text").parse(provider), ["a", "b"])
    const missing = yield* Effect.flip(Config.withDefault(array("gap"), []).parse(provider))
    assert.include(missing.message, `["gap"][1]`)
    assert.deepStrictEqual(yield* provider.load(["zeros"]), ConfigProvider.makeRecord(new Set(["00"])))
  }),

  test(
    "an empty value counts as missing unless it is to be preserved, and keys with an empty name are left out",
    function*(
      kv
    ) {
      yield* write(kv, { "config/empty": "", "config/folder/": "", "config/folder//x": "1", "config/folder/y": "2" })
      const provider = yield* on(kv)(KvConfig.provider("config/"))
      const empty = Config.option(Config.String("empty"))
      assert.deepStrictEqual(yield* empty.parse(provider), Option.none())
      assert.deepStrictEqual(
        yield* empty.parse(yield* on(kv)(KvConfig.provider("config/", { preserveEmptyStrings: true }))),
        Option.some("")
      )
      const folder = Config.Record(Schema.String, Schema.String, "folder")
      assert.deepStrictEqual(yield* folder.parse(provider), { y: "2" })
    }
  ),

  test("a value that is not UTF-8 fails the configs that read it, with its key and without its bytes", function*(kv) {
    yield* write(kv, { "config/good": "1", "config/bad": new Uint8Array([0xff, 0x61, 0x62, 0x63]) })
    const provider = yield* on(kv)(KvConfig.provider("config/"))
    assert.strictEqual(yield* Config.Int("good").parse(provider), 1)
    const error = yield* Effect.flip(Config.withDefault(Config.String("bad"), "default").parse(provider))
    assert.strictEqual(error.cause._tag, "SourceError")
    assert.include(error.message, `"config/bad"`)
    assert.notInclude(error.message, "abc")
  }),

  test("secrets are read as secrets", function*(kv) {
    yield* write(kv, { "config/password": "hunter2" })
    const provider = yield* on(kv)(KvConfig.provider("config/"))
    const password = yield* Config.Redacted("password").parse(provider)
    assert.strictEqual(Redacted.value(password), "hunter2")
    assert.notInclude(`${String(password)} ${JSON.stringify(provider)}`, "hunter2")
  }),

  test("a config that takes its time reads one revision", function*(kv) {
    const both = (value: string) => write(kv, { "config/a": value, "config/b": value })
    yield* both("1")
    const services = yield* Layer.build(over(kv, KvConfig.layer("config/")))
    const live = yield* Effect.provideContext(KvConfig.ref(Config.String("b")), services)
    // Between the two reads both keys change, and the change is known.
    const slow = Config.mapEffect(Config.String("a"), (a) =>
      Effect.gen(function*() {
        yield* both(`${Number(a) + 1}`)
        yield* soon("the change is known", Effect.map(live.get, (b) => b !== a))
        return a
      }).pipe(Effect.orDie))
    const pair = Config.all([slow, Config.String("b")])
    assert.deepStrictEqual(yield* Effect.provideContext(KvConfig.get(pair), services), ["1", "1"])
    assert.deepStrictEqual(yield* Effect.provideContext(KvConfig.get(pair), services), ["2", "2"])
  }),

  test("the provider of the layer stays at the revision at which the layer was built", function*(kv) {
    const limit = Config.Int("limit")
    yield* write(kv, { "config/limit": "1" })
    const services = yield* Layer.build(over(kv, KvConfig.layer("config/")))
    const live = yield* Effect.provideContext(KvConfig.ref(limit), services)
    yield* write(kv, { "config/limit": "2" })
    yield* soon("the change is known", Effect.map(live.get, (now) => now === 2))
    assert.strictEqual(yield* Effect.provideContext(limit, services), 1)
    assert.strictEqual(yield* Effect.provideContext(KvConfig.get(limit), services), 2)
    const newest = yield* Layer.build(Layer.provide(KvConfig.layerNewest, Layer.succeedContext(services)))
    assert.strictEqual(yield* Effect.provideContext(limit, newest), 2)
  }),

  test("layerAdd completes the present provider, or the store completes it, also for live values", function*(kv) {
    yield* write(kv, { "config/limit": "1", "config/mode": "store" })
    const present = environment({ limit: "5", banner: "hello" })
    const all = Config.all([Config.Int("limit"), Config.String("mode"), Config.String("banner")])
    for (const [asPrimary, limit] of [[false, 5], [true, 1]] as const) {
      const added = Layer.provide(KvConfig.layerAdd("config/", { asPrimary }), present)
      const services = yield* Layer.build(over(kv, added))
      assert.deepStrictEqual(yield* Effect.provideContext(all, services), [limit, "store", "hello"])
      assert.deepStrictEqual(yield* Effect.provideContext(KvConfig.get(all), services), [limit, "store", "hello"])
    }
    const alone = yield* Layer.build(over(kv, Layer.provide(KvConfig.layer("config/"), present)))
    assert.deepStrictEqual(
      yield* Effect.provideContext(Config.option(Config.String("banner")), alone),
      Option.none()
    )
  }),

  test("each provider keeps its own case: constants in the environment, names as written in the store", function*(kv) {
    yield* write(kv, { "config/database/maxSize": "1", "config/database/minSize": "0" })
    const size = (name: string) => Config.nested(Config.Int(name), "database")
    const env = ConfigProvider.fromEnv({ env: { DATABASE_MAX_SIZE: "5" } }).pipe(ConfigProvider.constantCase)
    const added = Layer.provide(KvConfig.layerAdd("config/"), ConfigProvider.layer(env))
    const services = yield* Layer.build(over(kv, added))
    assert.strictEqual(yield* Effect.provideContext(size("maxSize"), services), 5)
    assert.strictEqual(yield* Effect.provideContext(size("minSize"), services), 0)
    yield* write(kv, { "config/DATABASE/MAX_SIZE": "7" })
    const constants = yield* on(kv)(KvConfig.provider("config/", { transform: ConfigProvider.constantCase }))
    assert.strictEqual(yield* size("maxSize").parse(constants), 7)
  }),

  test("a transform can combine two folders of one revision", function*(kv) {
    yield* write(kv, { "config/common/region": "eu", "config/common/limit": "1", "config/orders/limit": "2" })
    const provider = yield* on(kv)(KvConfig.provider("config/", {
      transform: (store) =>
        ConfigProvider.orElse(ConfigProvider.nested(store, "orders"), ConfigProvider.nested(store, "common"))
    }))
    const both = Config.all([Config.Int("limit"), Config.String("region")])
    assert.deepStrictEqual(yield* both.parse(provider), [2, "eu"])
  }),

  test("a configuration is seen through a namespace", function*(kv) {
    yield* write(kv, { "tenant/config/limit": "3", "config/limit": "4" })
    const provider = yield* on(Kv.prefixed(kv, "tenant/"))(KvConfig.provider("config/"))
    assert.strictEqual(yield* Config.Int("limit").parse(provider), 3)
  }),

  test("the prefix of a configuration ends with a slash", function*(kv) {
    for (const call of [KvConfig.provider("config"), Effect.scoped(KvConfig.make("config"))]) {
      const reason = yield* rejects(kv, "InvalidRequest", on(kv)(Effect.asVoid<unknown, unknown, Kv.Kv>(call)))
      assert.include(reason.message, `"config/"`)
    }
  })
])
