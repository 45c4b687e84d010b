/**
 * Values on the command line and in JSON: text, or base64 if the bytes are not UTF-8.
 */
import type { Entry } from "@effect-kv/core/Entry"
import * as Base64 from "effect/encoding/Base64"

/** A value in JSON: `value` if it is UTF-8, otherwise `base64`. */
export type JsonValue = { readonly value: string } | { readonly base64: string }

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/** The text of the bytes; `undefined` if they are not UTF-8. */
export const textOf = (bytes: Uint8Array): string | undefined => {
  try {
    return decoder.decode(bytes)
  } catch {
    return undefined
  }
}

/** A value for JSON. */
export const toJson = (bytes: Uint8Array): JsonValue => {
  const text = textOf(bytes)
  return text === undefined ? { base64: Base64.encode(bytes) } : { value: text }
}

/** An entry for JSON. Ids of leases are hexadecimal, as in etcd's tools. */
export const entryToJson = (entry: Entry): object => ({
  key: entry.key,
  ...toJson(entry.value),
  createRevision: entry.createRevision,
  modRevision: entry.modRevision,
  version: entry.version,
  lease: leaseToJson(entry)
})

/** The lease of an entry in hexadecimal; `null` if it has none. */
export const leaseToJson = ({ lease }: Pick<Entry, "lease">): string | null =>
  lease._tag === "Some" ? lease.value.toString(16) : null
