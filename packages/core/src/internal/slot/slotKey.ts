/**
 * The keys of slots: `NAME/INDEX` holds a slot, `NAME/INDEX/cooling` keeps it unused after its release.
 */
import * as KeyRange from "../../values/KeyRange.ts"

export const of = (name: string, index: number): string => `${name}/${index}`

export const coolingOf = (key: string): string => `${key}/cooling`

export const rangeOf = (name: string): KeyRange.KeyRange => KeyRange.prefix(`${name}/`)

/** The index that a key of the range takes; `undefined` for another key, such as of slots further down. */
export const indexOf = (name: string, key: string): number | undefined => {
  const match = /^(0|[1-9]\d*)(\/cooling)?$/.exec(key.slice(name.length + 1))
  return match === null ? undefined : Number(match[1])
}
