/**
 * Work with live configuration: two settings that are written together, some of them bad or deleted, and a live value of
 * both in each client.
 */
import * as Kv from "@effect-kv/core/Kv"
import * as KvConfig from "@effect-kv/core/KvConfig"
import * as Op from "@effect-kv/core/Op"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { RecordedClient, Step } from "./Worker.ts"
import { unique } from "./Worker.ts"

/** The prefix of the settings. */
export const settingsPrefix = (prefix: string): string => `${prefix}settings/`

const bad = "bad "

/** Whether a value of the store is a good setting. */
export const isGood = (value: string): boolean => !value.startsWith(bad)

const Setting = Schema.String.check(Schema.makeFilter(isGood))

export type Settings = readonly [a: string, b: string]

const config = Config.all([Config.schema(Setting, "a"), Config.schema(Setting, "b")])

const write = (client: RecordedClient, a: string, b: string) => {
  const settings = settingsPrefix(client.prefix)
  return client.kv.txn({ then: [Op.put(`${settings}a`, a), Op.put(`${settings}b`, b)] })
}

/** Writes both settings. */
export const writeGood = Effect.fnUntraced(function*(client: RecordedClient) {
  return yield* write(client, yield* unique(client), yield* unique(client))
})

/** Writes both settings, or a bad one, or deletes one. */
export const change: Step = Effect.fnUntraced(function*(client, random) {
  const choice = random.next()
  if (choice < 0.7) return yield* writeGood(client)
  if (choice < 0.9) return yield* write(client, yield* unique(client), `${bad}${yield* unique(client)}`)
  return yield* client.kv.delete(`${settingsPrefix(client.prefix)}${random.chance(0.5) ? "a" : "b"}`)
})

/** The live value of a client, until the scope closes. There must be good settings. */
export const live = (client: RecordedClient) =>
  KvConfig.make(settingsPrefix(client.prefix)).pipe(
    Effect.provideService(Kv.Kv, client.kv),
    Effect.flatMap((settings) => settings.ref(config))
  )
