/**
 * The demo on a real Postgres server, each worker in a process.
 */
import { KeyRange, Kv } from "@effect-kv/core"
import { PostgresLayer } from "@effect-kv/postgres"
import { PostgresServer } from "@effect-kv/test-suite/verification"
import { assert, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { demo, succeeded } from "./support/demo.ts"

it.live("the demo succeeds on Postgres in four processes and leaves nothing behind", () =>
  Effect.gen(function*() {
    const { url } = yield* PostgresServer.make()
    succeeded(yield* demo(["--processes", "4"], url))
    const kv = Context.get(yield* Layer.build(PostgresLayer.fromUrl(url)), Kv.Kv)
    assert.strictEqual(yield* kv.count(KeyRange.all), 0)
  }), 120_000)
