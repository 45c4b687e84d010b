/**
 * A set of intervals that finds the ones containing a key, in O(log n) plus the size of the result. It is a treap
 * ordered by the intervals' starts, in which each node knows the greatest end in its subtree.
 */
import { compareKeys } from "@effect-kv/core/KeyRange"
import type { Interval } from "./interval.ts"

/** An element. The `id` distinguishes elements with equal intervals. */
export interface IntervalMember {
  readonly interval: Interval
  readonly id: number
}

interface Node<A extends IntervalMember> {
  readonly member: A
  /** No node has a greater priority than its parent. Priorities are arbitrary, which keeps the tree balanced. */
  readonly priority: number
  left: Node<A> | undefined
  right: Node<A> | undefined
  /** The greatest end in this subtree; `undefined` if one of its intervals has no end. */
  lastEnd: string | undefined
}

export class IntervalTree<A extends IntervalMember> {
  #root: Node<A> | undefined = undefined
  #seed = 0x9e3779b9

  get isEmpty(): boolean {
    return this.#root === undefined
  }

  add(member: A): void {
    this.#root = insert(this.#root, {
      member,
      priority: this.#nextPriority(),
      left: undefined,
      right: undefined,
      lastEnd: member.interval.end
    })
  }

  remove(member: A): void {
    this.#root = remove(this.#root, member)
  }

  forEachContaining(key: string, f: (member: A) => void): void {
    visit(this.#root, key, f)
  }

  /** Marsaglia's xorshift. Pseudo-random priorities keep the tree balanced, whatever the order of insertion. */
  #nextPriority(): number {
    let x = this.#seed
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    this.#seed = x
    return x
  }
}

const compareMembers = (a: IntervalMember, b: IntervalMember): number =>
  compareKeys(a.interval.start, b.interval.start) || a.id - b.id

const laterEnd = (a: string | undefined, b: string | undefined): string | undefined =>
  a === undefined || b === undefined ? undefined : compareKeys(a, b) < 0 ? b : a

/** Recomputes the `lastEnd` of a node from its children. */
const updated = <A extends IntervalMember>(node: Node<A>): Node<A> => {
  let end = node.member.interval.end
  if (node.left !== undefined) end = laterEnd(end, node.left.lastEnd)
  if (node.right !== undefined) end = laterEnd(end, node.right.lastEnd)
  node.lastEnd = end
  return node
}

const insert = <A extends IntervalMember>(node: Node<A> | undefined, added: Node<A>): Node<A> => {
  if (node === undefined) return added
  if (added.priority > node.priority) {
    const parts = split(node, added.member)
    added.left = parts.before
    added.right = parts.after
    return updated(added)
  }
  if (compareMembers(added.member, node.member) < 0) node.left = insert(node.left, added)
  else node.right = insert(node.right, added)
  return updated(node)
}

const remove = <A extends IntervalMember>(node: Node<A> | undefined, member: A): Node<A> | undefined => {
  if (node === undefined) return undefined
  const order = compareMembers(member, node.member)
  if (order === 0) return join(node.left, node.right)
  if (order < 0) node.left = remove(node.left, member)
  else node.right = remove(node.right, member)
  return updated(node)
}

interface Parts<A extends IntervalMember> {
  readonly before: Node<A> | undefined
  readonly after: Node<A> | undefined
}

const split = <A extends IntervalMember>(node: Node<A> | undefined, at: A): Parts<A> => {
  if (node === undefined) return { before: undefined, after: undefined }
  if (compareMembers(node.member, at) < 0) {
    const parts = split(node.right, at)
    node.right = parts.before
    return { before: updated(node), after: parts.after }
  }
  const parts = split(node.left, at)
  node.left = parts.after
  return { before: parts.before, after: updated(node) }
}

/** Joins two trees. Every element of `before` must come before every element of `after`. */
const join = <A extends IntervalMember>(
  before: Node<A> | undefined,
  after: Node<A> | undefined
): Node<A> | undefined => {
  if (before === undefined) return after
  if (after === undefined) return before
  if (before.priority > after.priority) {
    before.right = join(before.right, after)
    return updated(before)
  }
  after.left = join(before, after.left)
  return updated(after)
}

const visit = <A extends IntervalMember>(node: Node<A> | undefined, key: string, f: (member: A) => void): void => {
  if (node === undefined || node.lastEnd !== undefined && compareKeys(node.lastEnd, key) <= 0) return
  visit(node.left, key, f)
  const { end, start } = node.member.interval
  if (compareKeys(start, key) > 0) return
  if (end === undefined || compareKeys(key, end) < 0) f(node.member)
  visit(node.right, key, f)
}
