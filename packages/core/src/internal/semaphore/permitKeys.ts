/**
 * The keys of a semaphore: the number of permits, and one key for each contender.
 *
 * `NAME/permits/limit` is the number of permits N. `NAME/permits/<lease id in hex>` is a contender, whose value is its
 * weight and, after a space, its description.
 *
 * N is not the value of `NAME`: the semaphore `a/b` would then block the lock `a`, whose contenders are all keys directly
 * under `a/`. And a waiter, which watches the prefix, sees resizes and releases in their order.
 */
import type { Entry } from "../../values/Entry.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import * as contenders from "../queue/contenders.ts"

export const prefixOf = (name: string): string => `${name}/permits/`

/** The key of N. It sorts after the contenders, because `l` is greater than any hexadecimal digit. */
export const limitOf = (name: string): string => `${prefixOf(name)}limit`

/** The keys of the contenders, and deeper ones. */
export const contendersOf = (name: string): KeyRange.KeyRange => KeyRange.halfOpen(prefixOf(name), limitOf(name))

export const isContender = (name: string, entry: Pick<Entry, "key">): boolean =>
  KeyRange.contains(contendersOf(name), entry.key) && contenders.isContender(prefixOf(name), entry)

export const valueOf = (weight: number, description: string | undefined): string =>
  description === undefined || description === "" ? `${weight}` : `${weight} ${description}`

export interface Permits {
  readonly weight: number
  readonly description: string
}

/** A key that something other than a semaphore put there counts as one permit. */
export const permitsOf = ({ lossyText }: Entry): Permits => {
  const [, digits, description] = /^(\d+)(?: (.*))?$/s.exec(lossyText) ?? []
  const weight = Number(digits)
  return isCount(weight) ? { weight, description: description ?? "" } : { weight: 1, description: lossyText }
}

/**
 * The number of permits in a value; `undefined` if the value is something else. Each number has one text, because
 * conditions compare texts.
 */
export const countOf = ({ lossyText }: Entry): number | undefined => {
  const count = Number(lossyText)
  return isCount(count) && `${count}` === lossyText ? count : undefined
}

/** Whether it is a number of permits: a whole number of at least 1. */
export const isCount = (value: number): boolean => Number.isSafeInteger(value) && value >= 1
