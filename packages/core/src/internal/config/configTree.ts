/**
 * The configuration in a range at one revision, as the tree that Effect's `Config` reads: a key is a path of names that
 * slashes separate.
 */
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import type { Entry } from "../../values/Entry.ts"

/** The entries by their path, and the names in each folder. The root is the folder "". */
interface ConfigTree {
  readonly entries: ReadonlyMap<string, Entry>
  readonly folders: ReadonlyMap<string, ReadonlySet<string>>
}

/** A provider that reads the entries. Its prefix is not part of a path. */
export const provider = (
  prefix: string,
  entries: ReadonlyMap<string, Entry>,
  preserveEmptyStrings: boolean
): ConfigProvider.ConfigProvider => {
  let tree: ConfigTree | undefined
  return ConfigProvider.make((path) => {
    const name = path.join("/")
    // No name is empty, so this path names nothing; as a text it looks like the root.
    if (name === "" && path.length > 0) return Effect.undefined
    tree ??= treeOf(prefix, entries)
    const entry = tree.entries.get(name)
    const names = tree.folders.get(name)
    return entry === undefined
      ? Effect.succeed(nodeOf(undefined, names))
      : Effect.map(textOf(entry), (text) => nodeOf(text === "" && !preserveEmptyStrings ? undefined : text, names))
  })
}

/** A key with an empty name, such as `a//b` or the marker `a/` of a folder, has no path. It is left out. */
const treeOf = (prefix: string, entries: ReadonlyMap<string, Entry>): ConfigTree => {
  const paths = new Map<string, Entry>()
  const folders = new Map<string, Set<string>>()
  for (const entry of entries.values()) {
    const path = entry.key.slice(prefix.length)
    const names = path.split("/")
    if (names.includes("")) continue
    paths.set(path, entry)
    let folder = ""
    for (const name of names) {
      const known = folders.get(folder)
      if (known === undefined) folders.set(folder, new Set([name]))
      else known.add(name)
      folder = folder === "" ? name : `${folder}/${name}`
    }
  }
  return { entries: paths, folders }
}

const nodeOf = (
  value: string | undefined,
  names: ReadonlySet<string> | undefined
): ConfigProvider.Node | undefined => {
  if (names === undefined) return value === undefined ? undefined : ConfigProvider.makeValue(value)
  return [...names].every(isIndex)
    ? ConfigProvider.makeArray(lengthOf(names), value)
    : ConfigProvider.makeRecord(names, value)
}

const isIndex = (name: string): boolean => /^(0|[1-9]\d*)$/.test(name)

/**
 * With a gap, the length ends at the first missing element, which is what a `Config` then reports. The largest index
 * would do as well, except that one key `list/4000000000` would make every reader allocate that many elements.
 */
const lengthOf = (indexes: ReadonlySet<string>): number => {
  let present = 0
  while (indexes.has(`${present}`)) present++
  return present === indexes.size ? present : present + 1
}

const textOf = (entry: Entry): Effect.Effect<string, ConfigProvider.SourceError> =>
  Effect.mapError(entry.text, () =>
    new ConfigProvider.SourceError({
      message: `the value of ${JSON.stringify(entry.key)} (revision ${entry.modRevision}) is not UTF-8 text`
    }))
