/**
 * The notifications of the database: a revision, and the keys that it wrote unless they are many.
 */

export interface Revision {
  readonly revision: bigint
  readonly keys: ReadonlyArray<Uint8Array> | undefined
}

/** A revision with its keys. */
export interface Named extends Revision {
  readonly keys: ReadonlyArray<Uint8Array>
}

export const parse = (payload: string): Revision => {
  const [revision = "", keys] = payload.split(" ")
  return {
    // Another program may notify the same channel: then nothing is read.
    revision: /^\d+$/.test(revision) ? BigInt(revision) : -1n,
    keys: keys === undefined ? undefined : keys.split(",").map(bytesOf)
  }
}

const bytesOf = (hex: string): Uint8Array => {
  const bytes = new Uint8Array(hex.length / 2)
  for (let i = 0; i < bytes.length; i++) bytes[i] = Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16)
  return bytes
}
