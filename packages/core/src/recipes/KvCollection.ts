/**
 * Typed values: a collection of keys under a prefix, whose keys and values have schemas.
 *
 * Values are stored as JSON, by the schema's JSON codec. An entry that does not decode is a failure of its own: it ends
 * no stream and hides no other entry, and its error names the key and the revision, never the value.
 *
 * A key is one segment, or a list of segments if its schema encodes to one. Segments are joined by slashes. A key with
 * another number of segments belongs to another collection: `users/ada/settings` is not in the collection `users/`.
 */
import * as Effect from "effect/Effect"
import type { Schemas } from "../internal/collection/codec.ts"
import * as codecs from "../internal/collection/codec.ts"
import * as internal from "../internal/collection/collection.ts"
import { DecodeError, EncodeError } from "../internal/collection/collectionErrors.ts"
import type { Change, Item, KvCollection, Snapshot, View } from "../internal/collection/model.ts"
import { Kv } from "../service/Kv.ts"
import * as KeyRange from "../values/KeyRange.ts"
import * as KvError from "../values/KvError.ts"

export { DecodeError, EncodeError }

export type { Change, Item, KvCollection, Schemas, Snapshot, View }

/**
 * Makes a collection of the keys under the prefix, which is empty or ends with a slash.
 *
 * @example
 * ```ts
 * import { KvCollection } from "@effect-kv/core"
 * import { Effect, Option, Schema } from "effect"
 *
 * const User = Schema.Struct({ name: Schema.String, logins: Schema.Number })
 *
 * const program = Effect.gen(function*() {
 *   const users = yield* KvCollection.make("users/", { key: Schema.String, value: User })
 *   yield* users.put("ada", { name: "Ada", logins: 0 })
 *   yield* users.update("ada", Option.match({
 *     onNone: () => ({ name: "Ada", logins: 1 }),
 *     onSome: (user) => ({ ...user, logins: user.logins + 1 })
 *   }))
 *   yield* users.get("ada") // => Option.some({ name: "Ada", logins: 1 })
 * })
 * ```
 *
 * @since 0.1.0
 */
export const make = <K, V, RK, RV>(
  prefix: string,
  schemas: Schemas<K, V, RK, RV>
): Effect.Effect<KvCollection<K, V>, KvError.KvError, Kv | RK | RV> =>
  Effect.gen(function*() {
    const problem = KeyRange.invalid(KeyRange.prefix(prefix)) ??
      (prefix === "" || prefix.endsWith("/")
        ? undefined
        : `the prefix of a collection must end with a slash, as in ${JSON.stringify(`${prefix}/`)}: ` +
          `without it, keys of other collections could begin with the same characters`)
    if (problem !== undefined) return yield* KvError.fail(new KvError.InvalidRequest({ message: problem }))
    return internal.make(yield* Kv, prefix, yield* codecs.make(prefix, schemas))
  })
