/**
 * A search for an order in which operations can have taken effect one at a time, each between its invocation and its
 * completion. A history is linearizable if there is one.
 *
 * The algorithm is Wing and Gong's ("Testing and verifying concurrent objects", 1993): apply any operation that was invoked
 * before all other remaining ones completed, and continue; backtrack if none is possible. States that were visited before are
 * not searched again, which is Lowe's improvement ("Testing for linearizability", 2017), as in Porcupine and Knossos.
 *
 * Operations of unknown outcome may take effect at any time after their invocation, or never. Trying all of them everywhere
 * would be exponential, so orders with few of them in a row are tried first, then orders with more.
 */

/** An operation to be put in order. */
export interface Operation<S> {
  readonly invoked: number
  /** Infinite if it is unknown when it took effect. */
  readonly completed: number
  /** Whether it must have taken effect. */
  readonly isRequired: boolean
  /** A guess when it took effect: smaller ones are tried first. Default: the time of invocation. */
  readonly guess?: number
  /** The states that it can lead to; none if the response would be wrong. */
  readonly step: (state: S) => ReadonlyArray<S>
}

/** A search problem. */
export interface Problem<S> {
  readonly operations: ReadonlyArray<Operation<S>>
  readonly initial: S
  /** A key that is equal for equal states. */
  readonly key: (state: S) => string
  /** Whether the state may be the last one. Default: any state may. */
  readonly accept?: (state: S) => boolean
  /** The most steps. */
  readonly budget: number
}

/** The result of a search: indexes of operations in order. */
export type Result<S> =
  | { readonly _tag: "Found"; readonly order: ReadonlyArray<number>; readonly steps: number }
  | {
    readonly _tag: "None"
    /** The longest order, the state after it, and the candidates for the next operation, whose responses are wrong there. */
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
  /** How many optional operations followed the last required one. */
  readonly chain: number
  /** The first completion among the remaining operations: operations invoked after it must wait. */
  readonly earliest: number
  /** The last operation, and the frame from which it was tried. */
  readonly last: { readonly operation: number; readonly from: Frame<S> } | undefined
  /** The candidates for the next operation. Required ones come first, because they are more likely. */
  readonly candidates: ReadonlyArray<number>
  next: number
  /** The untried states that the last candidate leads to. */
  states: Array<S>
}

class Search<S> {
  readonly #problem: Problem<S>
  readonly #required: ReadonlyArray<number>
  readonly #optional: ReadonlyArray<number>
  /** For each required operation, its position by invocation. */
  readonly #places = new Map<number, number>()
  /** For each required operation, its position in the order that is tried first. */
  readonly #ranks = new Map<number, number>()
  #isDone = new Uint8Array(0)
  #doneRequired = 0
  /** The position of the first remaining required operation. */
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

  /** Searches with a limit of optional operations in a row; `undefined` if a higher limit might find an order. */
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

  /** The next state to try from a frame. */
  #advance(frame: Frame<S>): S | undefined {
    const { key, operations } = this.#problem
    while (frame.states.length === 0) {
      const operation = frame.candidates[frame.next++]
      if (operation === undefined) return undefined
      this.#steps++
      const states = operations[operation]!.step(frame.state)
      if (!this.#places.has(operation)) {
        // An optional operation that changes nothing need not have happened.
        frame.states = states.filter((state) => key(state) !== key(frame.state))
      } else if (!this.#isInversion(frame, operation, states)) frame.states = [...states]
    }
    return frame.states.shift()
  }

  /**
   * Whether a required operation could also come before the last one, with the same result. Then only that order is tried.
   * (Of two commuting operations the required one comes first, then the one with the smaller guess.)
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

  /** A compact form of the applied operations: all before the head, some after it, and some optional ones. */
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
