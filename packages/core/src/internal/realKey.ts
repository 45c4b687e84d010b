/**
 * The key that a view's key is in its client: the same for all views of one client, whatever their prefixes.
 */
import type { KvBackend } from "../KvBackend.ts"

/** A symbol, so that functions of backends hand the prefix on with `{ ...backend }`. */
const Prefix = Symbol.for("@effect-kv/core/internal/realKey/Prefix")

interface Prefixed {
  readonly [Prefix]?: string | undefined
}

const prefixOf = (backend: KvBackend & Prefixed): string => backend[Prefix] ?? ""

/** Notes that the keys of `view` are those of `backend` that begin with the prefix. */
export const withPrefix = (view: KvBackend, backend: KvBackend, prefix: string): KvBackend & Prefixed => ({
  ...view,
  [Prefix]: prefixOf(backend) + prefix
})

/** The key in its client, as far as functions of backends hand the prefix on. */
export const of = (backend: KvBackend, key: string): string => prefixOf(backend) + key
