import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as EtcdBinaries from "../src/verification/etcd/EtcdBinaries.ts"

const withVariable = (name: string, value: string | undefined) => {
  const set = (value: string | undefined) =>
    Effect.sync(() => {
      if (value === undefined) delete process.env[name]
      else process.env[name] = value
    })
  return <A, E, R>(effect: Effect.Effect<A, E, R>) => {
    const before = process.env[name]
    return Effect.acquireUseRelease(set(value), () => effect, () => set(before))
  }
}

describe("EtcdBinaries", () => {
  it.effect("EtcdBinaries.get finds etcd and etcdctl of every provided version", () =>
    Effect.gen(function*() {
      const versions = yield* EtcdBinaries.provided
      assert.isNotEmpty(versions)
      for (const version of versions) {
        const binaries = yield* EtcdBinaries.get(version)
        assert.strictEqual(binaries.version, version)
        assert.match(binaries.etcd, /\/etcd$/)
        assert.match(binaries.etcdctl, /\/etcdctl$/)
      }
    }))

  it.effect("the error of a missing version says how to get it", () =>
    Effect.gen(function*() {
      const unset = yield* Effect.flip(EtcdBinaries.get("3.4").pipe(withVariable("EFFECT_KV_ETCD_34", undefined)))
      assert.match(unset.message, /EFFECT_KV_ETCD_34 is not set.*npm test/)
      const wrong = yield* Effect.flip(EtcdBinaries.get("3.4").pipe(withVariable("EFFECT_KV_ETCD_34", "/nowhere")))
      assert.match(wrong.message, /\/nowhere\/etcd and \/nowhere\/etcdctl cannot be executed.*npm test/)
    }))

  it.effect("the version under test comes from the environment; the default is the newest", () =>
    Effect.gen(function*() {
      const version = (value: string | undefined) => withVariable("EFFECT_KV_ETCD", value)(EtcdBinaries.currentVersion)
      assert.strictEqual(yield* version(undefined), "3.7")
      assert.strictEqual(yield* version("3.4"), "3.4")
      const unknown = yield* Effect.flip(version("2.0"))
      assert.match(unknown.message, /"2.0".*3.7, 3.6, 3.5, 3.4/)
    }))
})
