/**
 * A priority queue of items with deadlines, earliest first. It is a binary heap whose items know their index, so an
 * item can be moved or removed without a search.
 */
export interface Timed {
  deadline: number
  /** The item's index in its heap. Only the heap may change it. */
  heapIndex: number
}

export class DeadlineHeap<A extends Timed> {
  readonly #items: Array<A> = []

  get earliest(): A | undefined {
    return this.#items[0]
  }

  add(item: A): void {
    this.#items.push(item)
    this.#rise(this.#items.length - 1, item)
  }

  remove(item: A): void {
    const last = this.#items.pop()!
    if (last === item) return
    this.#place(item.heapIndex, last)
    this.#settle(last)
  }

  /** Must be called after an item's deadline was changed. */
  moved(item: A): void {
    this.#settle(item)
  }

  /** Adds the time to every deadline. */
  shift(by: number): void {
    for (const item of this.#items) item.deadline += by
  }

  #settle(item: A): void {
    this.#rise(item.heapIndex, item)
    this.#sink(item.heapIndex, item)
  }

  #place(index: number, item: A): void {
    this.#items[index] = item
    item.heapIndex = index
  }

  #rise(from: number, item: A): void {
    let index = from
    while (index > 0) {
      const above = (index - 1) >>> 1
      if (this.#items[above]!.deadline <= item.deadline) break
      this.#place(index, this.#items[above]!)
      index = above
    }
    this.#place(index, item)
  }

  #sink(from: number, item: A): void {
    let index = from
    while (true) {
      const left = index * 2 + 1
      if (left >= this.#items.length) break
      const right = left + 1
      const isRight = right < this.#items.length && this.#items[right]!.deadline < this.#items[left]!.deadline
      const below = isRight ? right : left
      if (this.#items[below]!.deadline >= item.deadline) break
      this.#place(index, this.#items[below]!)
      index = below
    }
    this.#place(index, item)
  }
}
