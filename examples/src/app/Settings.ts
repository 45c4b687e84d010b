/**
 * The settings that an operator changes while the service runs: keys under `config/` in the store, else the environment.
 *
 *     etcdctl put examples/app/config/linksPerMinute 100
 */
import { KvConfig } from "@effect-kv/core"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Api from "./Api.ts"

const PositiveInt = Schema.Int.check(Schema.isGreaterThan(0))

const config = Config.all({
  linksPerMinute: Config.withDefault(Config.schema(PositiveInt, "linksPerMinute"), 60),
  banner: Config.withDefault(Config.String("banner"), "")
})

export class Settings extends Context.Service<Settings, KvConfig.Live<typeof Api.Settings.Type>>()(
  "examples/app/Settings"
) {
  static readonly layer = Layer.effect(Settings, KvConfig.ref(config)).pipe(
    Layer.provide(KvConfig.layerAdd("config/", { asPrimary: true }))
  )
}
