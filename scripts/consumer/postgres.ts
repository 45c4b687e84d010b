/** The Postgres backend as installed: its layer and its script, without a server. */
import { Kv } from "@effect-kv/core"
import { PostgresLayer, PostgresSchema } from "@effect-kv/postgres"
import * as PostgresLayerModule from "@effect-kv/postgres/PostgresLayer"
import { Effect } from "effect"

if (PostgresLayerModule.layer !== PostgresLayer.layer) throw new Error("two copies of a module")
if (!PostgresSchema.script("mine").includes("\"mine\".store")) throw new Error("the script does not create the schema")

const program = Effect.flip(Kv.get("a").pipe(Effect.provide(PostgresLayer.fromUrl("http://localhost"))))

const error = await Effect.runPromise(program)
if (error.reason._tag !== "InvalidRequest") throw error
