/**
 * Members of a group: each client is one for the whole round, and changes its value.
 */
import * as Kv from "@effect-kv/core/Kv"
import * as Members from "@effect-kv/core/Members"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as locks from "./locks.ts"
import type { RecordedClient } from "./Worker.ts"
import { unique } from "./Worker.ts"

/** The group of a round. */
export const groupName = (prefix: string): string => `${prefix}members`

/** The key of a client's member. */
export const memberKey = (prefix: string, client: string): string => `${groupName(prefix)}/${client}`

export const isMemberKey = (key: string): boolean => /^[^/]*\/members\//.test(key)

/** The form of a member's value. */
export const schema = Schema.String

/** The value in a member's text. */
export const valueOf = (text: string): string => JSON.parse(text) as string

/** Is a member until it is interrupted. Every value is noted before it is written, and once the update has returned. */
export const resident = Effect.fnUntraced(
  function*(client: RecordedClient, pause: Effect.Effect<void>) {
    const { name, notes, prefix } = client
    const noted = notes.members[name]!
    const first = yield* unique(client)
    noted.values.push(first)
    const member = yield* Members.join(groupName(prefix), { id: name, value: first, schema, ttl: locks.ttl })
    noted.known = 0
    while (true) {
      yield* pause
      const value = yield* unique(client)
      noted.values.push(value)
      yield* member.update(value)
      noted.known = noted.values.length - 1
    }
  },
  Effect.scoped,
  (effect, client) => Effect.provideService(effect, Kv.Kv, client.kv)
)

/** The members as this client sees them. */
export const view = ({ kv, prefix }: RecordedClient) =>
  Effect.provideService(Members.view(groupName(prefix), schema), Kv.Kv, kv)
