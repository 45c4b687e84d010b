/**
 * A key with its value and its revisions.
 */
import * as Effect from "effect/Effect"
import { NodeInspectSymbol } from "effect/Inspectable"
import * as Option from "effect/Option"
import * as utf8 from "../internal/values/utf8.ts"
import * as KvError from "./KvError.ts"

/**
 * A value, as text or as bytes. A string is stored as its UTF-8 bytes.
 *
 * @since 0.1.0
 */
export type Value = string | Uint8Array

/**
 * A key-value pair at one revision. Immutable.
 *
 * **Gotchas**
 *
 * Printing an entry (`toString`, `toJSON`, `inspect`) shows the length of its value, never the value: entries are
 * logged, and values may be secrets.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { Effect, Option } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("config/limit", "10")
 *   const entry = Option.getOrThrow(yield* Kv.getEntry("config/limit"))
 *   yield* entry.text // => "10"
 *   entry.size // => 2
 *   entry.lease // => Option.none()
 * })
 * ```
 *
 * @since 0.1.0
 */
export class Entry {
  readonly key: string
  /** The revision of the write that created the key. */
  readonly createRevision: bigint
  /** The revision of the last write to the key. */
  readonly modRevision: bigint
  /** The number of writes to the key since it was created; the creation is 1. */
  readonly version: number
  /** The lease that the key is attached to. */
  readonly lease: Option.Option<bigint>
  #raw: Value
  #bytes: Uint8Array | undefined

  constructor(fields: Fields) {
    this.key = fields.key
    this.#raw = fields.value
    this.createRevision = fields.createRevision
    this.modRevision = fields.modRevision
    this.version = fields.version
    this.lease = fields.lease
  }

  /** The value's bytes. The array is this entry's own copy. */
  get value(): Uint8Array {
    return this.#bytes ??= typeof this.#raw === "string" ? utf8.encode(this.#raw) : new Uint8Array(this.#raw)
  }

  /** The value as text. Fails with `InvalidRequest` if the bytes are not UTF-8, as `kv.get` does. */
  get text(): Effect.Effect<string, KvError.KvError> {
    const text = typeof this.#raw === "string" ? this.#raw : utf8.decodeStrict(this.#raw)
    return text === undefined ? notText(this.key) : Effect.succeed(text)
  }

  /** The value as text in which U+FFFD replaces bytes that are not UTF-8. Exact if the value was written as text. */
  get lossyText(): string {
    return typeof this.#raw === "string" ? this.#raw : utf8.decodeLenient(this.#raw)
  }

  /** Number of bytes of the value. */
  get size(): number {
    return typeof this.#raw === "string" ? utf8.byteLength(this.#raw) : this.#raw.length
  }

  /** The same entry under another key. */
  withKey(key: string): Entry {
    return new Entry({
      key,
      value: this.#raw,
      createRevision: this.createRevision,
      modRevision: this.modRevision,
      version: this.version,
      lease: this.lease
    })
  }

  toJSON(): unknown {
    return {
      _id: "Entry",
      key: this.key,
      value: `<${this.size} bytes>`,
      createRevision: `${this.createRevision}`,
      modRevision: `${this.modRevision}`,
      version: this.version,
      lease: Option.match(this.lease, { onNone: () => null, onSome: String })
    }
  }

  toString(): string {
    return JSON.stringify(this.toJSON())
  }

  [NodeInspectSymbol](): unknown {
    return this.toJSON()
  }
}

/** Fails instead of replacing bytes: a program that writes the text back would change the value. */
const notText = (key: string): Effect.Effect<never, KvError.KvError> =>
  KvError.fail(
    new KvError.InvalidRequest({
      message: `the value of ${JSON.stringify(key)} is not UTF-8 text; read its bytes with Kv.getEntry and Entry.value`
    }),
    { operation: "get", key }
  )

/**
 * The fields of an entry, from which a backend makes it. The backend must not change `value` afterwards.
 *
 * @since 0.1.0
 */
export interface Fields {
  readonly key: string
  readonly value: Value
  readonly createRevision: bigint
  readonly modRevision: bigint
  readonly version: number
  readonly lease: Option.Option<bigint>
}

/**
 * Converts the store's lease id, in which 0 means none. For backends.
 *
 * @example
 * ```ts
 * import { Entry } from "@effect-kv/core"
 *
 * Entry.leaseOf(7n) // => Option.some(7n)
 * Entry.leaseOf(0n) // => Option.none()
 * ```
 *
 * @since 0.1.0
 */
export const leaseOf = (id: bigint): Option.Option<bigint> => id === 0n ? Option.none() : Option.some(id)

/**
 * Makes an entry. For backends.
 *
 * @example
 * ```ts
 * import { Entry } from "@effect-kv/core"
 * import { Option } from "effect"
 *
 * const entry = Entry.make({ key: "a", value: "1", createRevision: 7n, modRevision: 7n, version: 1, lease: Option.none() })
 * entry.value // => new TextEncoder().encode("1")
 * ```
 *
 * @since 0.1.0
 */
export const make = (fields: Fields): Entry => new Entry(fields)
