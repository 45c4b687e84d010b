/**
 * Rendezvous hashing: each shard belongs to the member whose hash with it is the largest.
 *
 * The hash is the same in every version, because members of several versions must agree: FNV-1a (32 bits) over the UTF-8
 * bytes of the id, a byte 0xFF and the bytes of the shard, mixed by the finalizer of MurmurHash3. Of equal hashes, the
 * one of the smaller id counts.
 */
import * as KeyRange from "../../values/KeyRange.ts"
import * as utf8 from "../values/utf8.ts"

/** A function that returns the owner of a shard among these ids; `undefined` if there are none. */
export const ownerAmong = (ids: Iterable<string>): (shard: string) => string | undefined => {
  const states = [...ids].map((id) => ({ id, state: fnv(fnv(offset, utf8.encode(id)), separator) }))
  return (shard) => {
    const bytes = utf8.encode(shard)
    let owner: string | undefined
    let largest = -1
    for (const { id, state } of states) {
      const hash = mixed(fnv(state, bytes))
      if (hash > largest || hash === largest && KeyRange.compareKeys(id, owner!) < 0) {
        owner = id
        largest = hash
      }
    }
    return owner
  }
}

const offset = 0x811c9dc5
/** No UTF-8 text contains it. */
const separator = Uint8Array.of(0xff)

const fnv = (state: number, bytes: Uint8Array): number => {
  let hash = state
  for (let i = 0; i < bytes.length; i++) hash = Math.imul(hash ^ bytes[i]!, 0x01000193)
  return hash
}

const mixed = (state: number): number => {
  let hash = Math.imul(state ^ state >>> 16, 0x85ebca6b)
  hash = Math.imul(hash ^ hash >>> 13, 0xc2b2ae35)
  return (hash ^ hash >>> 16) >>> 0
}
