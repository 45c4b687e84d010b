/**
 * A list that grows at its end and drops elements at its beginning. Positions are absolute: dropping the first element
 * does not renumber the others. Every operation takes amortised constant time.
 */

/** The least number of dropped elements whose space is reclaimed. */
const minReclaimed = 32

export class Deque<A> {
  #items: Array<A | undefined> = []
  #dropped = 0
  /** The position of the first element. */
  first = 0

  /** The position after the last element. */
  get end(): number {
    return this.first + this.#items.length - this.#dropped
  }

  get length(): number {
    return this.#items.length - this.#dropped
  }

  push(item: A): void {
    this.#items.push(item)
  }

  /** The element at a position from `first` up to, not including, `end`. */
  at(position: number): A {
    return this.#items[position - this.first + this.#dropped]!
  }

  dropFirst(): void {
    this.#items[this.#dropped++] = undefined
    this.first++
    if (this.#dropped >= minReclaimed && this.#dropped * 2 >= this.#items.length) {
      this.#items = this.#items.slice(this.#dropped)
      this.#dropped = 0
    }
  }

  /** The first position whose element fulfils the condition, if all later ones do too; `end` if no element does. */
  firstWhere(holds: (item: A) => boolean): number {
    let low = this.first
    let high = this.end
    while (low < high) {
      const middle = (low + high) >>> 1
      if (holds(this.at(middle))) high = middle
      else low = middle + 1
    }
    return low
  }
}
