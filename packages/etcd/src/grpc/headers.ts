/**
 * The request headers of a call.
 */
import { type OutgoingHttpHeaders, sensitiveHeaders } from "node:http2"
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
 * The first name in the metadata with a name or value that HTTP/2 does not allow. Node sends some of these unchanged.
 */
export const invalidName = (metadata: Readonly<Record<string, string>>): string | undefined => {
  for (const name in metadata) {
    if (!/^[0-9a-z_.-]+$/.test(name) || !/^[\x20-\x7e]*$/.test(metadata[name]!)) return name
  }
  return undefined
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
