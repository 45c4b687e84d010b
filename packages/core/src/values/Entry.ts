/**
 * A key with its value and its revisions.
 */
import * as Effect from "effect/Effect"
import { NodeInspectSymbol } from "effect/Inspectable"
import * as Option from "effect/Option"
import * as utf8 from "../internal/values/utf8.ts"
import * as KvError from "./KvError.ts"

/** A value, as text or as bytes. A string is stored as its UTF-8 bytes. */
export type Value = string | Uint8Array

/**
 * A key-value pair at one revision. Immutable.
 *
 * **Gotchas**
 *
 * Printing an entry (`toString`, `toJSON`, `inspect`) shows the length of its value, never the value: entries are logged,
 * and values may be secrets.
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

/** A value that is not text must not become other text on its way through a program. */
const notText = (key: string): Effect.Effect<never, KvError.KvError> =>
  KvError.fail(
    new KvError.InvalidRequest({
      message: `the value of ${JSON.stringify(key)} is not UTF-8 text; read its bytes with Kv.getEntry and Entry.value`
    }),
    { operation: "get", key }
  )

/** The fields from which a backend makes an entry. It must not change `value` afterwards. */
export interface Fields {
  readonly key: string
  readonly value: Value
  readonly createRevision: bigint
  readonly modRevision: bigint
  readonly version: number
  readonly lease: Option.Option<bigint>
}

/** The lease by its id in the store, in which 0 means none. For backends. */
export const leaseOf = (id: bigint): Option.Option<bigint> => id === 0n ? Option.none() : Option.some(id)

/** Makes an entry. For backends. */
export const make = (fields: Fields): Entry => new Entry(fields)
