/**
 * The keys of slots: `NAME/slots/INDEX` holds a slot, `NAME/slots/INDEX/cooling` keeps it unused after its release, and
 * `NAME/slots/queue/...` are the clients that wait for one.
 *
 * They are not directly under `NAME/`: a lock of that name takes all keys there for contenders.
 */
import * as KeyRange from "../../values/KeyRange.ts"

const prefixOf = (name: string): string => `${name}/slots/`

export const of = (name: string, index: number): string => `${prefixOf(name)}${index}`

export const coolingOf = (key: string): string => `${key}/cooling`

/** The slots, without the queue: digits sort before `:`. */
export const rangeOf = (name: string): KeyRange.KeyRange =>
  KeyRange.halfOpen(`${prefixOf(name)}0`, `${prefixOf(name)}:`)

/** The queue of the clients that wait. */
export const queueOf = (name: string): string => `${prefixOf(name)}queue`

/** The index that a key of the range takes; `undefined` for another key. */
export const indexOf = (name: string, key: string): number | undefined => {
  const match = /^(0|[1-9]\d*)(\/cooling)?$/.exec(key.slice(prefixOf(name).length))
  return match === null ? undefined : Number(match[1])
}
