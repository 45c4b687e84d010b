/**
 * The request headers of a call.
 */
import { type OutgoingHttpHeaders, sensitiveHeaders } from "node:http2"
import { type Outcome, Status } from "./status.ts"
import type { CallOptions } from "./Transport.ts"

/** The headers that all requests of a channel share. */
export interface Origin {
  readonly scheme: "http" | "https"
  readonly authority: string
}

export const make = (
  { authority, scheme }: Origin,
  path: string,
  { metadata, sensitive }: CallOptions,
  timeout: number | undefined
): OutgoingHttpHeaders => {
  const headers: OutgoingHttpHeaders & { [sensitiveHeaders]?: Array<string> } = {
    ":method": "POST",
    ":scheme": scheme,
    ":authority": authority,
    ":path": path,
    te: "trailers",
    "content-type": "application/grpc",
    "user-agent": "effect-kv"
  }
  if (timeout !== undefined) headers["grpc-timeout"] = formatTimeout(timeout)
  if (metadata !== undefined) { for (const name in metadata) headers[name] = metadata[name] }
  // Node checks that it is an array, and does not change it.
  if (sensitive !== undefined) headers[sensitiveHeaders] = sensitive as Array<string>
  return headers
}

/**
 * The largest metadata that is sent, in bytes of names and values. Node refuses a header block above 64 KiB, other
 * headers included, and would report that as a rejection by the server.
 */
export const maxMetadataSize = 64_000

/** Why the metadata cannot be sent. Node sends some names and values that HTTP/2 does not allow. */
export const problemOf = (metadata: Readonly<Record<string, string>>): Outcome | undefined => {
  let size = 0
  for (const name in metadata) {
    const value = metadata[name]!
    if (!/^[0-9a-z_.-]+$/.test(name) || !/^[\x20-\x7e]*$/.test(value)) {
      return {
        code: Status.INTERNAL,
        details: `metadata "${name}" has a name or value that HTTP/2 does not allow`
      }
    }
    size += name.length + value.length
  }
  if (size <= maxMetadataSize) return undefined
  return {
    code: Status.RESOURCE_EXHAUSTED,
    details: `the metadata (${Object.keys(metadata).join(", ")}) has ${size} bytes; the limit is ${maxMetadataSize}`
  }
}

/** Milliseconds as a `grpc-timeout`: at most eight digits, rounded up, since 0 would have expired already. */
export const formatTimeout = (millis: number): string => {
  let value = Math.max(Math.ceil(millis), 1)
  for (const { unit, size } of units) {
    if (value < 1e8) return `${value}${unit}`
    value = Math.ceil(value / size)
  }
  return `${Math.min(value, 99_999_999)}H`
}

/** Each unit, and how many of it the next one is. */
const units = [{ unit: "m", size: 1000 }, { unit: "S", size: 60 }, { unit: "M", size: 60 }]
