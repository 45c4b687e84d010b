/**
 * The public modules of the packages, with each export's declaration and docstring.
 *
 * Declarations come from the emitted `.d.ts` files, which hold the inferred types and keep the comments. Only the header
 * of a module comes from its source: the compiler drops it together with an import that it elides.
 */
import { existsSync, globSync, readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { parseSync } from "vite"
import { packages, root } from "./paths.mjs"

/**
 * @typedef {{ description: string, example: string, since: string, isInternal: boolean }} Doc
 * @typedef {{ name: string, isFunction: boolean, signature: string, doc: Doc | undefined }} Member
 * @typedef {{ name: string, kind: string, isFunction: boolean, signature: string, doc: Doc | undefined, file: string, members: Array<Member> }} Export
 * @typedef {{ id: string, name: string, file: string, entryPoints: Array<string>, header: Doc | undefined, exports: Array<Export> }} Module
 */

const text = (/** @type {string} */ file) => readFileSync(join(root, file), "utf8")

const manifests = Object.fromEntries(
  packages.map((folder) => [`@effect-kv/${folder}`, { folder, ...JSON.parse(text(`packages/${folder}/package.json`)) }])
)

/** The file of a module's declarations: `packages/core/src/values/Op.ts` is emitted as `packages/core/dist/values/Op.d.ts`. */
const declarationsOf = (source) => source.replace(/^(packages\/[^/]+)\/src\//, "$1/dist/").replace(/\.ts$/, ".d.ts")

/**
 * Each entry point of a package with its source. A pattern stands for every file that it matches and that is not excluded.
 *
 * @returns {Array<[string, string]>}
 */
const entryPointsOf = ({ exports, folder: name }) =>
  Object.entries(exports).filter(([, target]) => target?.endsWith(".ts")).flatMap(([key, target]) => {
    const folder = `packages/${name}`
    if (!key.includes("*")) return [[`@effect-kv/${name}${key.slice(1)}`, join(folder, target)]]
    const [before, after] = target.slice(2).split("*")
    const hidden = Object.keys(exports).filter((key) => exports[key] === null).map((key) => key.split("*")[0].slice(2))
    return globSync(`${before}**/*${after}`, { cwd: join(root, folder) })
      .map((file) => file.slice(before.length, -after.length))
      .filter((part) => part !== "index" && !part.includes("/") && !hidden.some((prefix) => part.startsWith(prefix)))
      .sort()
      .map((part) => [`@effect-kv/${name}/${key.slice(2).replace("*", part)}`, join(folder, before + part + after)])
  })

const parsed = new Map()

/** A file of declarations, parsed once. */
const parse = (source) => {
  if (!parsed.has(source)) {
    const file = declarationsOf(source)
    if (!existsSync(join(root, file))) throw new Error(`${file} is missing: \`npm run build\` emits it`)
    const code = text(file)
    const { comments, errors, program } = parseSync(file, code)
    if (errors.length > 0) throw new Error(`${file}: ${errors[0].message}`)
    parsed.set(source, { source, code, comments, body: program.body })
  }
  return parsed.get(source)
}

/** @returns {Doc} */
export const parseDoc = (comment) => {
  const lines = comment.replace(/^\*/, "").split("\n").map((line, index) =>
    index === 0 ? line.trim() : line.replace(/^\s*\* ?/, "").trimEnd()
  )
  const sections = { "": [] }
  let section = ""
  let isCode = false
  for (const line of lines) {
    if (line.startsWith("```")) isCode = !isCode
    const tag = isCode ? undefined : /^@(\w+) ?(.*)$/.exec(line)
    if (tag) sections[section = tag[1]] ??= []
    sections[section].push(tag ? tag[2] : line)
  }
  const joined = (name) => (sections[name] ?? []).join("\n").trim()
  return {
    description: joined("").replaceAll(/\{@link ([^}]+)\}/g, "`$1`"),
    example: joined("example"),
    since: joined("since"),
    isInternal: sections.internal !== undefined
  }
}

/** The comment that ends where the node begins. */
const docOf = ({ code, comments }, node) => {
  const comment = comments.findLast(({ end, type, value }) =>
    type === "Block" && value.startsWith("*") && end <= node.start && code.slice(end, node.start).trim() === ""
  )
  return comment === undefined ? undefined : parseDoc(comment.value)
}

/** The text of a node without the comments in it. */
const plain = ({ code, comments }, { start, end }) => {
  let result = ""
  let from = start
  for (const comment of comments.filter((comment) => comment.start >= start && comment.end <= end)) {
    result += code.slice(from, comment.start)
    from = comment.end
  }
  return (result + code.slice(from, end)).replaceAll(/\n[ \t]*(?=\n)/g, "")
}

const isFunctionType = (type) =>
  type?.type === "TSFunctionType" ||
  type?.type === "TSTypeLiteral" && type.members.length > 0 &&
    type.members.every((member) => member.type === "TSCallSignatureDeclaration")

const kinds = {
  TSInterfaceDeclaration: "interface",
  TSTypeAliasDeclaration: "type",
  ClassDeclaration: "class",
  TSDeclareFunction: "function",
  FunctionDeclaration: "function",
  TSEnumDeclaration: "enum",
  TSModuleDeclaration: "namespace"
}

const isPublicMember = (member) =>
  member.key?.type === "Identifier" && !member.computed && member.accessibility !== "private"

const describeMember = (file, member) => ({
  name: member.key.name,
  isFunction: member.type === "TSMethodSignature" || member.type === "MethodDefinition" && member.kind === "method" ||
    isFunctionType(member.typeAnnotation?.typeAnnotation),
  signature: plain(file, member).replace(/;$/, ""),
  doc: docOf(file, member)
})

/** The members of the object types in a type, without those of its members. */
const literalMembers = (node) => {
  if (typeof node !== "object" || node === null || node.type === "TSFunctionType") return []
  if (node.type === "TSTypeLiteral") return node.members
  return Object.values(node).flatMap(literalMembers)
}

const membersOf = (file, declaration) => {
  const own = declaration.body?.body ??
    (declaration.typeAnnotation?.type === "TSTypeLiteral" ? declaration.typeAnnotation.members : [])
  const inherited = declaration.type === "ClassDeclaration" ? literalMembers(baseOf(file, declaration)) : []
  return [...inherited, ...(Array.isArray(own) ? own : [])]
    .filter(isPublicMember)
    .map((member) => describeMember(file, member))
    .filter(({ doc }) => doc?.isInternal !== true)
}

/** What a statement declares: pairs of a name and a node that has the declaration, its kind and its text. */
const declared = (statement) => {
  const declaration = statement.type === "ExportNamedDeclaration" ? statement.declaration : statement
  if (declaration === null || declaration === undefined) return []
  if (declaration.type === "VariableDeclaration") {
    return declaration.declarations.map((one) => ({
      name: one.id.name,
      kind: isFunctionType(one.id.typeAnnotation?.typeAnnotation) ? "function" : "const",
      declaration: one,
      statement
    }))
  }
  const kind = kinds[declaration.type]
  return kind === undefined ? [] : [{ name: declaration.id.name, kind, declaration, statement }]
}

/** The class of a schema or a service extends a constant with its fields, which the compiler declares apart. */
const baseOf = (file, { superClass }) =>
  superClass?.name?.endsWith("_base")
    ? file.body.flatMap(declared).find(({ name }) => name === superClass.name)?.statement
    : undefined

const withBase = (file, declaration) => {
  const base = baseOf(file, declaration)
  return base === undefined ? "" : `\n\n${plain(file, base)}`
}

const makeExport = (file, name, { declaration, kind, statement }, specifierDoc) => {
  const own = docOf(file, statement)
  const members = ["interface", "class", "type"].includes(kind) ? membersOf(file, declaration) : []
  // Members have their docstrings listed. The comments on the cases of a union have no other place.
  const signature = kind === "type" && members.length === 0
    ? file.code.slice(statement.start, statement.end)
    : plain(file, statement)
  return {
    name,
    kind,
    isFunction: kind === "function",
    signature: signature.replace(/^export /, "") + withBase(file, declaration),
    doc: own ?? specifierDoc,
    file: file.source,
    members
  }
}

/** The source of an import: a relative path, or a public module of one of the packages. */
const resolve = (from, specifier) => {
  if (specifier.startsWith(".")) return join(dirname(from), specifier)
  const [scope, name, ...rest] = specifier.split("/")
  const manifest = manifests[`${scope}/${name}`]
  return manifest && new Map(entryPointsOf(manifest)).get([scope, name, ...rest].join("/"))
}

/** The declarations that a module exports by a name. */
const lookUp = (source, name) => {
  const file = parse(source)
  return file.body.flatMap(declared).filter((one) => one.name === name).map((one) => ({ file, one })).concat(
    throughImports(file, name)
  )
}

const throughImports = (file, name) =>
  file.body.filter(({ type }) => type === "ImportDeclaration").flatMap(({ source, specifiers }) =>
    specifiers.filter(({ local, type }) => type === "ImportSpecifier" && local.name === name).flatMap(
      ({ imported }) => {
        const target = resolve(file.source, source.value)
        return target === undefined ? [] : lookUpExported(target, imported.name)
      }
    )
  )

/** The declarations behind an exported name, wherever they are. */
const lookUpExported = (source, name) => {
  const file = parse(source)
  const direct = file.body.filter((statement) => statement.type === "ExportNamedDeclaration").flatMap((statement) => {
    const ofStatement = declared(statement).filter((one) => one.name === name).map((one) => ({ file, one }))
    const specifiers = statement.specifiers.filter(({ exported }) => exported.name === name)
    return ofStatement.concat(
      specifiers.flatMap(({ local }) =>
        statement.source === null
          ? lookUp(source, local.name)
          : lookUpExported(resolve(source, statement.source.value), local.name)
      )
    )
  })
  if (direct.length > 0) return direct
  return file.body.filter(({ exported, type }) => type === "ExportAllDeclaration" && exported === null).flatMap((all) =>
    lookUpExported(resolve(source, all.source.value), name)
  )
}

/** Each exported name of a module, in the order of the source, with the docstring beside the name, if there is one. */
const exportedNames = (source) => {
  const file = parse(source)
  return file.body.flatMap((statement) => {
    if (statement.type === "ExportAllDeclaration" && statement.exported === null) {
      return exportedNames(resolve(source, statement.source.value))
    }
    if (statement.type !== "ExportNamedDeclaration") return []
    return declared(statement).map(({ name }) => ({ name, doc: undefined })).concat(
      statement.specifiers.map((specifier) => ({ name: specifier.exported.name, doc: docOf(file, specifier) }))
    )
  })
}

const exportsOf = (source) => {
  const names = new Map()
  for (const { doc, name } of exportedNames(source)) names.set(name, names.get(name) ?? doc)
  return [...names].flatMap(([name, doc]) =>
    lookUpExported(source, name).map(({ file, one }) => makeExport(file, name, one, doc))
  ).filter(({ doc }) => doc?.isInternal !== true)
}

/** `export * as Name from "./Name.ts"` in the file of an entry point. */
const namespacesOf = (source) =>
  parse(source).body.filter(({ exported, type }) => type === "ExportAllDeclaration" && exported !== null).map(
    ({ exported, source: { value } }) => ({ name: exported.name, file: resolve(source, value) })
  )

const headerOf = (source) => {
  const comment = /^\/\*\*([\s\S]*?)\*\//.exec(text(source))
  return comment === null ? undefined : parseDoc(`*${comment[1]}`)
}

/** @returns {Array<Module>} */
const modulesOf = (manifest) => {
  /** @type {Map<string, Module>} */
  const modules = new Map()
  const add = (name, file, entryPoint) => {
    const id = `${manifest.folder}/${name}`
    /** @type {Module} */
    const known = modules.get(file) ?? { id, name, file, entryPoints: [], header: undefined, exports: [] }
    known.entryPoints.push(entryPoint)
    modules.set(file, known)
  }
  for (const [entryPoint, file] of entryPointsOf(manifest)) {
    const namespaces = namespacesOf(file)
    for (const namespace of namespaces) add(namespace.name, namespace.file, entryPoint)
    if (namespaces.length === 0) add(entryPoint.split("/").slice(2).join("/"), file, entryPoint)
  }
  for (const module of modules.values()) {
    module.header = headerOf(module.file)
    module.exports = exportsOf(module.file)
  }
  return [...modules.values()].sort((a, b) => a.name < b.name ? -1 : 1)
}

/** The packages with their public modules. */
export const readApi = () =>
  Object.values(manifests)
    .map((manifest) => ({ ...manifest, modules: modulesOf(manifest) }))
    .filter(({ modules }) => modules.length > 0) // the command line is a program, without modules for others
