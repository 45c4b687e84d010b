/**
 * Takes a lock, writes, reads and watches on the store of the URL in the arguments, and prints what it saw. It is bundled
 * into a single file, so the URL chooses between memory and etcd at run time.
 */
import { DistLock, KeyRange, Kv, KvUrl } from "@effect-kv/core"
import { EtcdLayer } from "@effect-kv/etcd"
import { MemoryLayer } from "@effect-kv/memory"
import { Config, ConfigProvider, Effect, Layer, Option, Stream } from "effect"

const program = Effect.gen(function*() {
  const kv = yield* Kv.Kv
  const { revision } = yield* kv.put("value/a", "1")
  yield* DistLock.withDistLock(kv.put("value/a", "2"), "bundled")
  const events = yield* kv.watch(KeyRange.key("value/a"), { startRevision: revision }).pipe(
    Stream.take(2),
    Stream.runCollect
  )
  const value = yield* kv.get("value/a")
  return { value: Option.getOrThrow(value), events: events.length }
})

const store = KvUrl.layerConfig(Config.String("KV_URL"), {
  mem: MemoryLayer.fromUrl,
  http: EtcdLayer.fromUrl,
  https: EtcdLayer.fromUrl
})

const environment = ConfigProvider.layer(ConfigProvider.fromUnknown({ KV_URL: process.argv[2] }))

void Effect.runPromise(Effect.provide(program, Layer.provide(store, environment))).then(
  (seen) => console.log(JSON.stringify(seen)),
  (error: unknown) => {
    console.error(error)
    process.exitCode = 1
  }
)
