/**
 * Numbers of sequences, checked by the store's own history: each is given out once, and grows in real time.
 */
import type { Notes, TakenNumber } from "./Notes.ts"
import type { Change } from "./Store.ts"
import * as sequences from "./work/sequences.ts"

type Changes = ReadonlyArray<Change>

/** What was wrong, as messages. */
export const find = (changes: Changes, prefix: string, notes: Notes): ReadonlyArray<string> => {
  const name = sequences.sequenceName(prefix)
  return [
    ...twice(`the number`, notes.numbers.map(({ value }) => value)),
    ...twice(`the dense number`, notes.denseNumbers),
    ...invented(changes, name, notes.numbers),
    ...backward(notes.numbers),
    ...unreserved(changes, name, notes.denseNumbers)
  ]
}

const twice = (what: string, values: ReadonlyArray<bigint>): ReadonlyArray<string> =>
  [...Map.groupBy(values, (value) => value)].flatMap(([value, all]) =>
    all.length === 1 ? [] : [`${what} ${value} was given out ${all.length} times`]
  )

/** A number is the revision of a write of the sequence. */
const invented = (changes: Changes, name: string, numbers: ReadonlyArray<TakenNumber>): ReadonlyArray<string> => {
  const written = new Set(
    changes.filter(({ key }) => key === sequences.lastOf(name)).map(({ modRevision }) => modRevision)
  )
  return numbers.filter(({ value }) => !written.has(value)).map(({ value }) =>
    `the number ${value} is not a revision of the sequence`
  )
}

/** A number is larger than those of all calls that had returned before its call began. */
const backward = (numbers: ReadonlyArray<TakenNumber>): ReadonlyArray<string> => {
  const byEnd = numbers.toSorted((a, b) => a.ended < b.ended ? -1 : 1)
  let next = 0
  let largest = 0n
  return numbers.toSorted((a, b) => a.began < b.began ? -1 : 1).flatMap(({ began, value }) => {
    for (; next < byEnd.length && byEnd[next]!.ended < began; next++) {
      if (byEnd[next]!.value > largest) largest = byEnd[next]!.value
    }
    return value > largest ? [] : [`the number ${value} was given out after ${largest} had been`]
  })
}

/** Reservations only grow, and no number was given out that is not reserved. */
const unreserved = (changes: Changes, name: string, dense: ReadonlyArray<bigint>): ReadonlyArray<string> => {
  const wrong: Array<string> = []
  let reserved = 0n
  for (const { key, modRevision, value } of changes) {
    if (key !== sequences.reservedOf(name)) continue
    if (BigInt(value) <= reserved) wrong.push(`${key} went from ${reserved} to ${value} at revision ${modRevision}`)
    reserved = BigInt(value)
  }
  return [
    ...wrong,
    ...dense.filter((value) => value < 1n || value > reserved).map((value) =>
      `the dense number ${value} was given out, and ${reserved} was the last that was reserved`
    )
  ]
}
