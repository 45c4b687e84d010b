import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import * as KvUrl from "@effect-kv/core/KvUrl"
import { assert, describe, it } from "@effect/vitest"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

/** A backend that fails with its own name and the URL it was opened with. */
const failing = (by: string): KvUrl.Open => (url) =>
  Layer.effect(Kv.Kv, KvError.fail(new KvError.Unavailable({ message: `${by} <${url}>` })))

const schemes = { mem: failing("mem"), http: failing("http"), https: failing("https") }

const openedBy = (layer: Layer.Layer<Kv.Kv, KvError.KvError>) =>
  Effect.map(Effect.flip(Effect.scoped(Layer.build(layer))), (error) => error.reason)

describe("KvUrl", () => {
  it.effect("the scheme selects the backend, which gets the URL unchanged", () =>
    Effect.gen(function*() {
      for (
        const [url, by] of [
          ["mem:", "mem"],
          ["mem:NAME", "mem"],
          ["MEM:NAME", "mem"],
          ["http://127.0.0.1:2379", "http"],
          ["https://user:secret@etcd:2379?x=y", "https"],
          ["HTTPS://etcd", "https"]
        ] as const
      ) {
        assert.strictEqual((yield* openedBy(KvUrl.layer(url, schemes))).message, `${by} <${url}>`)
      }
    }))

  it.effect("a malformed URL or an unknown scheme fails with InvalidRequest, and the message does not repeat the URL", () =>
    Effect.gen(function*() {
      for (
        const url of [
          "",
          "secret",
          "/secret",
          "://secret",
          "1http://secret",
          " http://secret",
          "ftp://user:secret@host",
          "toString:secret",
          "__proto__:secret"
        ]
      ) {
        const reason = yield* openedBy(KvUrl.layer(url, schemes))
        assert.strictEqual(reason._tag, "InvalidRequest")
        assert.notInclude(reason.message, "secret")
        assert.include(reason.message, "http:, https:, mem:")
      }
    }))

  it.effect("the URL can come from configuration", () =>
    Effect.gen(function*() {
      const provider = ConfigProvider.fromUnknown({ KV_URL: "mem:shared" })
      const layer = KvUrl.layerConfig(Config.String("KV_URL"), schemes).pipe(
        Layer.provide(ConfigProvider.layer(provider))
      )
      const error = yield* Effect.flip(Effect.scoped(Layer.build(layer)))
      assert.isTrue(KvError.isKvError(error) && error.reason.message === "mem <mem:shared>")
    }))

  it.effect("a missing configuration value fails with the configuration's error", () =>
    Effect.gen(function*() {
      const layer = KvUrl.layerConfig(Config.String("KV_URL"), schemes).pipe(
        Layer.provide(ConfigProvider.layer(ConfigProvider.fromUnknown({})))
      )
      const error = yield* Effect.flip(Effect.scoped(Layer.build(layer)))
      assert.isFalse(KvError.isKvError(error))
    }))
})
