/**
 * Searches for an order in which operations can have taken effect one at a time, each between its invocation and its
 * completion: whether a history is linearizable.
 *
 * The algorithm is Wing and Gong's ("Testing and verifying concurrent objects", 1993): take any operation that was invoked
 * before all others that remain were completed, do it, go on; go back where none can be done. States that were met before
 * are not searched again, which is Lowe's improvement ("Testing for linearizability", 2017), as in Porcupine and Knossos.
 *
 * Operations without an answer may take effect at any time after their invocation, or never. Trying all of them everywhere
 * would be exponential at once; so an order with few of them in a row is tried first, then one with more.
 */

/** Something to be put in order. */
export interface Operation<S> {
  readonly invoked: number
  /** Infinite where it is not known when it took effect. */
  readonly completed: number
  /** Whether it must have taken effect. */
  readonly isRequired: boolean
  /** When it took effect, as far as one may guess: what is smaller is tried first. By default the time of invocation. */
  readonly guess?: number
  /** The states that it can lead to; none where it could not have been answered as it was. */
  readonly step: (state: S) => ReadonlyArray<S>
}

/** What is searched for. */
export interface Problem<S> {
  readonly operations: ReadonlyArray<Operation<S>>
  readonly initial: S
  /** The same for the same state. */
  readonly key: (state: S) => string
  /** Whether this may be the end. Default: any state may. */
  readonly accept?: (state: S) => boolean
  /** How often operations may be tried. */
  readonly budget: number
}

/** What came of a search: indexes of operations in their order. */
export type Result<S> =
  | { readonly _tag: "Found"; readonly order: ReadonlyArray<number>; readonly steps: number }
  | {
    readonly _tag: "None"
    /** The order that went farthest, the state after it, and what could have been next if its answer had been another. */
    readonly order: ReadonlyArray<number>
    readonly state: S
    readonly next: ReadonlyArray<number>
    readonly steps: number
  }
  | { readonly _tag: "OutOfBudget"; readonly steps: number }

export const search = <S>(problem: Problem<S>): Result<S> => {
  const search = new Search(problem)
  for (let chain = 0;; chain++) {
    const result = search.run(chain)
    if (result !== undefined) return result
  }
}

interface Frame<S> {
  readonly state: S
  /** How many optional operations came since the last required one. */
  readonly chain: number
  /** The first completion of what is not done: what was invoked after it has to wait. */
  readonly earliest: number
  /** The last operation, and the frame it was tried from. */
  readonly last: { readonly operation: number; readonly from: Frame<S> } | undefined
  /** What can be next: what is required first, for it is the more likely. */
  readonly candidates: ReadonlyArray<number>
  next: number
  /** The states that the candidate tried last leads to, as far as they are not tried. */
  states: Array<S>
}

class Search<S> {
  readonly #problem: Problem<S>
  readonly #required: ReadonlyArray<number>
  readonly #optional: ReadonlyArray<number>
  /** Of each required operation, its place among them. */
  readonly #places = new Map<number, number>()
  /** Of each required operation, its place in the order that is tried first. */
  readonly #ranks = new Map<number, number>()
  #isDone = new Uint8Array(0)
  #doneRequired = 0
  /** The place of the first required operation, by invocation, that is not done. */
  #head = 0
  #order: Array<number> = []
  #steps = 0
  #wasCut = false
  #farthest: { readonly required: number; readonly order: ReadonlyArray<number>; readonly frame: Frame<S> } | undefined

  constructor(problem: Problem<S>) {
    const byInvocation = problem.operations.map((_, i) => i).sort((a, b) =>
      problem.operations[a]!.invoked - problem.operations[b]!.invoked
    )
    this.#problem = problem
    this.#required = byInvocation.filter((i) => problem.operations[i]!.isRequired)
    this.#optional = byInvocation.filter((i) => !problem.operations[i]!.isRequired)
    for (const [place, operation] of this.#required.entries()) this.#places.set(operation, place)
    const guess = (i: number): number => problem.operations[i]!.guess ?? problem.operations[i]!.invoked
    const byGuess = this.#required.toSorted((a, b) => guess(a) - guess(b))
    for (const [rank, operation] of byGuess.entries()) this.#ranks.set(operation, rank)
  }

  /** Searches with at most so many optional operations in a row; `undefined` where more might find something. */
  run(maxChain: number): Result<S> | undefined {
    const { accept, budget, initial, key } = this.#problem
    this.#isDone = new Uint8Array(this.#problem.operations.length)
    this.#doneRequired = 0
    this.#head = 0
    this.#order = []
    this.#wasCut = false
    const seen = new Set<string>()
    const frames = [this.#frame(initial, 0, undefined, maxChain)]
    while (frames.length > 0) {
      if (this.#steps > budget) return { _tag: "OutOfBudget", steps: this.#steps }
      const frame = frames.at(-1)!
      if (this.#doneRequired === this.#required.length && (accept?.(frame.state) ?? true)) {
        return { _tag: "Found", order: this.#order, steps: this.#steps }
      }
      const state = this.#advance(frame)
      if (state === undefined) {
        frames.pop()
        this.#undo()
        continue
      }
      const operation = frame.candidates[frame.next - 1]!
      this.#do(operation)
      const chain = this.#places.has(operation) ? 0 : frame.chain + 1
      const reached = `${chain};${this.#doneKey()};${key(state)}`
      if (seen.has(reached)) {
        this.#undo()
        continue
      }
      seen.add(reached)
      frames.push(this.#frame(state, chain, { operation, from: frame }, maxChain))
    }
    if (this.#wasCut) return undefined
    const { frame, order } = this.#farthest!
    return {
      _tag: "None",
      order,
      state: frame.state,
      next: frame.candidates.filter((operation) => this.#places.has(operation)),
      steps: this.#steps
    }
  }

  #frame(state: S, chain: number, last: Frame<S>["last"], maxChain: number): Frame<S> {
    const { operations } = this.#problem
    const candidates: Array<number> = []
    let earliest = Number.POSITIVE_INFINITY
    for (let place = this.#head; place < this.#required.length; place++) {
      const operation = this.#required[place]!
      if (this.#isDone[operation] === 1) continue
      const { completed, invoked } = operations[operation]!
      if (invoked > earliest) break
      earliest = Math.min(earliest, completed)
      candidates.push(operation)
    }
    candidates.sort((a, b) => this.#ranks.get(a)! - this.#ranks.get(b)!)
    for (const operation of this.#optional) {
      if (operations[operation]!.invoked > earliest) break
      if (this.#isDone[operation] === 1) continue
      if (chain < maxChain) candidates.push(operation)
      else this.#wasCut = true
    }
    const frame: Frame<S> = { state, chain, earliest, last, candidates, next: 0, states: [] }
    if (this.#doneRequired > (this.#farthest?.required ?? -1)) {
      this.#farthest = { required: this.#doneRequired, order: [...this.#order], frame }
    }
    return frame
  }

  /** The next state to be tried from a frame. */
  #advance(frame: Frame<S>): S | undefined {
    const { key, operations } = this.#problem
    while (frame.states.length === 0) {
      const operation = frame.candidates[frame.next++]
      if (operation === undefined) return undefined
      this.#steps++
      const states = operations[operation]!.step(frame.state)
      if (!this.#places.has(operation)) {
        // What is optional and changes nothing need not have happened.
        frame.states = states.filter((state) => key(state) !== key(frame.state))
      } else if (!this.#isInversion(frame, operation, states)) frame.states = [...states]
    }
    return frame.states.shift()
  }

  /**
   * Whether a required operation could as well have come before the last one, and would come to the same: then that order
   * is tried, and this one need not be. (Of two that commute, what is required comes first, then what is guessed to.)
   */
  #isInversion({ last }: Frame<S>, operation: number, states: ReadonlyArray<S>): boolean {
    const { key, operations } = this.#problem
    if (last === undefined || states.length !== 1) return false
    const lastRank = this.#ranks.get(last.operation)
    if (lastRank !== undefined && lastRank < this.#ranks.get(operation)!) return false
    if (operations[operation]!.invoked > last.from.earliest) return false
    const [first, ...more] = operations[operation]!.step(last.from.state)
    if (first === undefined || more.length > 0) return false
    const second = operations[last.operation]!.step(first)
    return second.length === 1 && key(second[0]!) === key(states[0]!)
  }

  #do(operation: number): void {
    this.#order.push(operation)
    this.#isDone[operation] = 1
    if (!this.#places.has(operation)) return
    this.#doneRequired++
    while (this.#head < this.#required.length && this.#isDone[this.#required[this.#head]!] === 1) this.#head++
  }

  #undo(): void {
    const operation = this.#order.pop()
    if (operation === undefined) return
    this.#isDone[operation] = 0
    const place = this.#places.get(operation)
    if (place === undefined) return
    this.#doneRequired--
    this.#head = Math.min(this.#head, place)
  }

  /** What is done, in short: all before the head, some after it, and some that are optional. */
  #doneKey(): string {
    const parts = [this.#head]
    let left = this.#doneRequired - this.#head
    for (let place = this.#head + 1; left > 0; place++) {
      if (this.#isDone[this.#required[place]!] === 0) continue
      parts.push(place)
      left--
    }
    for (const operation of this.#optional) if (this.#isDone[operation] === 1) parts.push(-1 - operation)
    return parts.join()
  }
}
