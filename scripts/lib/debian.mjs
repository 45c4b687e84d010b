/**
 * Files of a Debian package from the machine's own package source, of any suite, without installing anything.
 *
 * apt keeps every list, cache and state in a scratch folder and reads only the copy of the source made here. So no
 * privileges are needed, and the system's package lists do not change. Keys and credentials remain the machine's.
 */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync
} from "node:fs"
import { tmpdir } from "node:os"
import { basename, join } from "node:path"
import { capture } from "./exec.mjs"

const etcApt = "/etc/apt"

const read = (path) => (existsSync(path) ? readFileSync(path, "utf8") : "")

/** `deb [signed-by=...] uri suite component...` */
const parseList = (text) =>
  text.split("\n").flatMap((line) => {
    const match = /^\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+(.*)$/.exec(line)
    if (match === null) return []
    const [, options = "", uri, suite, components] = match
    return [{ uri, suites: [suite], components, signedBy: /signed-by=(\S+)/.exec(options)?.[1] }]
  })

/** Paragraphs of `Field: value` (deb822). */
const parseSources = (text) =>
  text.split(/\n\s*\n/).flatMap((paragraph) => {
    const field = (name) => new RegExp(`^${name}:[ \\t]*(.+)$`, "im").exec(paragraph)?.[1]?.trim()
    const uri = field("URIs")?.split(/\s+/)[0]
    if (uri === undefined || !/\bdeb\b/.test(field("Types") ?? "") || /^no$/i.test(field("Enabled") ?? "")) return []
    return [{
      uri,
      suites: (field("Suites") ?? "").split(/\s+/),
      components: field("Components") ?? "",
      signedBy: field("Signed-By")
    }]
  })

/** The machine's main Debian archive: the one with the suite that this machine runs. */
const mainArchive = () => {
  const osRelease = read("/etc/os-release")
  const codename = /^VERSION_CODENAME=(.*)$/m.exec(osRelease)?.[1]
  if (!/^ID=debian$/m.test(osRelease)) return undefined
  const folder = join(etcApt, "sources.list.d")
  const files = existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : []
  return [
    ...files.filter((file) => file.endsWith(".sources")).flatMap((file) => parseSources(read(file))),
    ...files.filter((file) => file.endsWith(".list")).flatMap((file) => parseList(read(file))),
    ...parseList(read(join(etcApt, "sources.list")))
  ].find(({ components, suites }) =>
    /\bmain\b/.test(components) && suites.some((suite) => suite === codename || suite === "stable")
  )
}

const scratchConfig = async (scratch, archive, suite) => {
  const list = join(scratch, "source.list")
  const signedBy = archive.signedBy?.startsWith("/") ? `[signed-by=${archive.signedBy}] ` : ""
  writeFileSync(list, `deb ${signedBy}${archive.uri} ${suite} main\n`)
  writeFileSync(join(scratch, "status"), "")
  for (const name of ["lists/partial", "cache/archives/partial", "log"]) {
    mkdirSync(join(scratch, name), { recursive: true })
  }
  // The settings that reach the source, such as proxies, are kept. Configured hooks do not run.
  const dump = await capture("apt-config", ["dump", "--format", "%F \"%v\";%n"])
  const acquire = dump.split("\n").filter((line) =>
    line.startsWith("Acquire::") && !line.startsWith("Acquire::IndexTargets")
  )
  const config = join(scratch, "apt.conf")
  writeFileSync(
    config,
    [
      ...acquire,
      "Acquire::Languages \"none\";",
      "APT::Sandbox::User \"\";",
      "Dir::Etc::main \"/dev/null\";",
      "Dir::Etc::parts \"/dev/null\";",
      "Dir::Etc::preferences \"/dev/null\";",
      "Dir::Etc::preferencesparts \"/dev/null\";",
      "Dir::Etc::sourceparts \"/dev/null\";",
      `Dir::Etc::sourcelist "${list}";`,
      `Dir::State "${scratch}";`,
      `Dir::State::status "${join(scratch, "status")}";`,
      `Dir::State::lists "${join(scratch, "lists")}";`,
      `Dir::Cache "${join(scratch, "cache")}";`,
      `Dir::Log "${join(scratch, "log")}";`
    ].join("\n") + "\n"
  )
  return config
}

/**
 * Puts the programs (`usr/bin/*`, `usr/sbin/*`) of the packages into `directory`, and their libraries into its folder `lib`.
 *
 * @param {{ suite: string, packages: ReadonlyArray<string>, directory: string }} options
 * @returns {Promise<{ ok: true } | { ok: false, reason: string }>}
 */
export const debianBinaries = async ({ directory, packages, suite }) => {
  const archive = mainArchive()
  if (archive === undefined) return { ok: false, reason: "this machine has no Debian package source" }
  const scratch = mkdtempSync(join(tmpdir(), "effect-kv-apt-"))
  try {
    const env = { ...process.env, APT_CONFIG: await scratchConfig(scratch, archive, suite) }
    await capture("apt-get", ["-qq", "update"], { cwd: scratch, env })
    await capture("apt-get", ["-qq", "download", ...packages], { cwd: scratch, env })
    const unpacked = join(scratch, "unpacked")
    for (const name of readdirSync(scratch).filter((name) => name.endsWith(".deb"))) {
      await capture("dpkg-deb", ["-x", join(scratch, name), unpacked])
    }
    for (const programs of [join(unpacked, "usr/bin"), join(unpacked, "usr/sbin")].filter(existsSync)) {
      for (const name of readdirSync(programs)) copyFileSync(join(programs, name), join(directory, name))
    }
    const libraries = join(unpacked, "usr/lib")
    for (const path of existsSync(libraries) ? readdirSync(libraries, { recursive: true, encoding: "utf8" }) : []) {
      if (!/\.so[.\d]*$/.test(path)) continue
      mkdirSync(join(directory, "lib"), { recursive: true })
      copyFileSync(join(libraries, path), join(directory, "lib", basename(path)))
    }
    return { ok: true }
  } catch (error) {
    return { ok: false, reason: error.message.trim().replaceAll("\n", "\n    ") }
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}
