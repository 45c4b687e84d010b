/**
 * A set of items in the order of their keys' UTF-8 bytes: a B+ tree that knows the number of items under each node.
 *
 * The counts are the reason not to use a library: a read with a limit also returns the number of keys in its range, and
 * must not visit them all for that (100,000 keys: 3 us here, 10 ms with `sorted-btree`, which is otherwise as fast).
 * Inserting, removing and counting take O(log n); a slice takes O(log n) plus the size of the result.
 */
import { compareKeys } from "@effect-kv/core/KeyRange"

export interface Keyed {
  readonly key: string
}

/** The most items of a leaf, and children of a branch. */
const maxWidth = 64
/** A node narrower than this is merged with a neighbour if both fit into `mergedWidth`. */
const minWidth = maxWidth / 4
const mergedWidth = (maxWidth * 3) / 4

interface Leaf<A> {
  readonly _tag: "Leaf"
  readonly items: Array<A>
  size: number
}

interface Branch<A> {
  readonly _tag: "Branch"
  /** Never empty, all of the same depth. */
  readonly children: Array<Node<A>>
  /** The keys under a child are `>=` its bound and `<` the next child's. The first child's bound is not used. */
  readonly bounds: Array<string>
  /** The number of items under it. */
  size: number
}

type Node<A> = Leaf<A> | Branch<A>

export class OrderedIndex<A extends Keyed> {
  #root: Node<A> = leaf([])
  #isBefore: IsBefore = isBeforeByUnits

  get size(): number {
    return this.#root.size
  }

  /** Adds an item whose key is not in the set. */
  insert(item: A): void {
    const split = insert(this.#root, item, this.#isBefore)
    if (astral.test(item.key)) this.#isBefore = isBeforeByBytes
    if (split !== undefined) this.#root = branch([this.#root, split.right], ["", split.bound])
  }

  /** Removes the item of a key that is in the set. */
  remove(key: string): void {
    remove(this.#root, key, this.#isBefore)
    while (this.#root._tag === "Branch" && this.#root.children.length <= 1) {
      this.#root = this.#root.children[0] ?? leaf([])
    }
  }

  /** The number of items whose key is less than the given one. */
  rank(key: string): number {
    let node = this.#root
    let rank = 0
    while (node._tag === "Branch") {
      const at = childIndex(node, key, this.#isBefore)
      for (let i = 0; i < at; i++) rank += node.children[i]!.size
      node = node.children[at]!
    }
    return rank + itemIndex(node, key, this.#isBefore)
  }

  /** The items from one rank up to, not including, another. */
  slice(from: number, to: number): Array<A> {
    const items: Array<A> = []
    gather(this.#root, from, to, items)
    return items
  }
}

type IsBefore = (a: string, b: string) => boolean

const isBeforeByBytes: IsBefore = (a, b) => compareKeys(a, b) < 0

/**
 * Compares code units, which is nearly twice as fast as UTF-8 order. The two orders only differ for strings that differ
 * in a surrogate and a unit above the surrogates. So this is correct as long as no key in the index has such a unit.
 */
const isBeforeByUnits: IsBefore = (a, b) => a < b

/** The code units whose order is not that of UTF-8. */
const astral = /[\ud800-\uffff]/

const leaf = <A>(items: Array<A>): Node<A> => ({ _tag: "Leaf", items, size: items.length })

const branch = <A>(children: Array<Node<A>>, bounds: Array<string>): Node<A> => {
  let size = 0
  for (const child of children) size += child.size
  return { _tag: "Branch", children, bounds, size }
}

const width = <A>(node: Node<A>): number => node._tag === "Leaf" ? node.items.length : node.children.length

/** The index at which the key's item is, or belongs. */
const itemIndex = <A extends Keyed>(node: Leaf<A>, key: string, isBefore: IsBefore): number => {
  const items = node.items
  let low = 0
  let high = items.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (isBefore(items[middle]!.key, key)) low = middle + 1
    else high = middle
  }
  return low
}

/** The index of the child under which the key's item is, or belongs. */
const childIndex = <A>(node: Branch<A>, key: string, isBefore: IsBefore): number => {
  const bounds = node.bounds
  let low = 1
  let high = bounds.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (isBefore(key, bounds[middle]!)) high = middle
    else low = middle + 1
  }
  return low - 1
}

/** The right part that was split off a node that was too wide. */
interface Split<A> {
  readonly right: Node<A>
  readonly bound: string
}

const insert = <A extends Keyed>(node: Node<A>, item: A, isBefore: IsBefore): Split<A> | undefined => {
  node.size++
  if (node._tag === "Leaf") {
    const at = itemIndex(node, item.key, isBefore)
    node.items.splice(at, 0, item)
    return node.items.length > maxWidth ? splitLeaf(node, at) : undefined
  }
  const at = childIndex(node, item.key, isBefore)
  const split = insert(node.children[at]!, item, isBefore)
  if (split === undefined) return undefined
  node.children.splice(at + 1, 0, split.right)
  node.bounds.splice(at + 1, 0, split.bound)
  return node.children.length > maxWidth ? splitBranch(node) : undefined
}

/**
 * Splits a leaf in half. After an append only the new item is split off, so ascending keys leave full leaves behind.
 */
const splitLeaf = <A extends Keyed>(node: Leaf<A>, inserted: number): Split<A> => {
  const isAppend = inserted === node.items.length - 1
  const right = leaf(node.items.splice(isAppend ? inserted : node.items.length >>> 1))
  node.size -= right.size
  return { right, bound: (right as Leaf<A>).items[0]!.key }
}

const splitBranch = <A>(node: Branch<A>): Split<A> => {
  const middle = node.children.length >>> 1
  const bounds = node.bounds.splice(middle)
  const right = branch(node.children.splice(middle), bounds)
  node.size -= right.size
  return { right, bound: bounds[0]! }
}

const remove = <A extends Keyed>(node: Node<A>, key: string, isBefore: IsBefore): void => {
  node.size--
  if (node._tag === "Leaf") {
    node.items.splice(itemIndex(node, key, isBefore), 1)
    return
  }
  const at = childIndex(node, key, isBefore)
  const child = node.children[at]!
  remove(child, key, isBefore)
  if (child.size === 0) {
    node.children.splice(at, 1)
    node.bounds.splice(at, 1)
  } else if (width(child) < minWidth && node.children.length > 1) {
    mergeIfNarrow(node, Math.min(at, node.children.length - 2))
  }
}

/** Merges a child with its right neighbour if both fit into `mergedWidth`. */
const mergeIfNarrow = <A>(node: Branch<A>, at: number): void => {
  const left = node.children[at]!
  const right = node.children[at + 1]!
  if (width(left) + width(right) > mergedWidth) return
  if (left._tag === "Leaf") {
    left.items.push(...(right as Leaf<A>).items)
  } else {
    const { bounds, children } = right as Branch<A>
    // The first bound of the right child was not used and may be wrong. The parent's bound is right.
    bounds[0] = node.bounds[at + 1]!
    left.children.push(...children)
    left.bounds.push(...bounds)
  }
  left.size += right.size
  node.children.splice(at + 1, 1)
  node.bounds.splice(at + 1, 1)
}

/** Collects the items of the ranks from `from` up to, not including, `to`, counted from the node's first item. */
const gather = <A>(node: Node<A>, from: number, to: number, into: Array<A>): void => {
  if (node._tag === "Leaf") {
    const end = Math.min(to, node.items.length)
    for (let i = Math.max(from, 0); i < end; i++) into.push(node.items[i]!)
    return
  }
  let before = 0
  for (const child of node.children) {
    if (before >= to) return
    if (before + child.size > from) gather(child, from - before, to - before, into)
    before += child.size
  }
}
