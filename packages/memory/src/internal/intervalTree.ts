/**
 * A set of intervals that finds those a key lies in, in O(log n) and what it finds: a treap ordered by the intervals'
 * starts, in which each node knows the last end below it.
 */
import { compareKeys } from "@effect-kv/core/KeyRange"
import type { Interval } from "./interval.ts"

/** An element: two with equal intervals are told apart by `id`. */
export interface Member {
  readonly interval: Interval
  readonly id: number
}

interface Node<A extends Member> {
  readonly member: A
  /** No node has a greater one than the node above it; being arbitrary, they keep the tree balanced. */
  readonly priority: number
  left: Node<A> | undefined
  right: Node<A> | undefined
  /** The greatest end in this subtree, `undefined` for one that has none. */
  lastEnd: string | undefined
}

export class IntervalTree<A extends Member> {
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

  /** Marsaglia's xorshift: no one can choose intervals so that the tree degenerates without meaning to. */
  #nextPriority(): number {
    let x = this.#seed
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    this.#seed = x
    return x
  }
}

const compareMembers = (a: Member, b: Member): number => compareKeys(a.interval.start, b.interval.start) || a.id - b.id

const laterEnd = (a: string | undefined, b: string | undefined): string | undefined =>
  a === undefined || b === undefined ? undefined : compareKeys(a, b) < 0 ? b : a

/** Brings a node up to date with what is below it. */
const updated = <A extends Member>(node: Node<A>): Node<A> => {
  let end = node.member.interval.end
  if (node.left !== undefined) end = laterEnd(end, node.left.lastEnd)
  if (node.right !== undefined) end = laterEnd(end, node.right.lastEnd)
  node.lastEnd = end
  return node
}

const insert = <A extends Member>(node: Node<A> | undefined, added: Node<A>): Node<A> => {
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

const remove = <A extends Member>(node: Node<A> | undefined, member: A): Node<A> | undefined => {
  if (node === undefined) return undefined
  const order = compareMembers(member, node.member)
  if (order === 0) return join(node.left, node.right)
  if (order < 0) node.left = remove(node.left, member)
  else node.right = remove(node.right, member)
  return updated(node)
}

interface Parts<A extends Member> {
  readonly before: Node<A> | undefined
  readonly after: Node<A> | undefined
}

const split = <A extends Member>(node: Node<A> | undefined, at: A): Parts<A> => {
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

/** Joins two trees, everything in the one coming before everything in the other. */
const join = <A extends Member>(before: Node<A> | undefined, after: Node<A> | undefined): Node<A> | undefined => {
  if (before === undefined) return after
  if (after === undefined) return before
  if (before.priority > after.priority) {
    before.right = join(before.right, after)
    return updated(before)
  }
  after.left = join(before, after.left)
  return updated(after)
}

const visit = <A extends Member>(node: Node<A> | undefined, key: string, f: (member: A) => void): void => {
  if (node === undefined || node.lastEnd !== undefined && compareKeys(node.lastEnd, key) <= 0) return
  visit(node.left, key, f)
  const { end, start } = node.member.interval
  if (compareKeys(start, key) > 0) return
  if (end === undefined || compareKeys(key, end) < 0) f(node.member)
  visit(node.right, key, f)
}
