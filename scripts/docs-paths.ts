/** Finds what pages name and the repository does not have: paths in code font, targets of links, npm scripts, folders in pictures. */
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** Folders of the repository; `providers/` and `policies/` are also folders of a user's configuration. */
const OWN_PATH = /^(?:src|test|docs|scripts|bench|deploy|examples|quickstart|sdk|\.ci)\/[\w./-]*$/

const withoutFences = (text: string): string => text.replaceAll(/^```[^\n]*\n[\s\S]*?^```/gm, '')

const codeIn = (text: string): string[] => [...withoutFences(text).matchAll(/`([^`\n]+)`/g)].map(([, code]) => code!)

/** The anchors that GitHub gives to the headings of a page. */
const anchorsOf = (text: string): ReadonlySet<string> =>
  new Set(
    [...withoutFences(text).matchAll(/^#+ (.+)$/gm)].map(([, heading]) =>
      heading!
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
        .trim()
        .replaceAll(' ', '-'),
    ),
  )

const brokenLink = (root: string, page: string, text: string, target: string, read: (path: string) => string) => {
  const [path = '', anchor] = target.split('#')
  const file = path === '' ? page : join(dirname(page), path)
  if (path !== '' && !existsSync(join(root, file))) return true
  if (anchor === undefined || !file.endsWith('.md')) return false
  return !anchorsOf(path === '' ? text : read(file)).has(anchor)
}

/** Tests that a page names by their file and the beginning of their name, and that are not there: `test/a.test.ts`: "name". */
const missingTests = (root: string, text: string): string[] =>
  [...withoutFences(text).matchAll(/`(test\/[\w./-]+\.ts)`: "([^"\n]+)"/g)]
    .filter(
      ([, file, name]) => existsSync(join(root, file!)) && !readFileSync(join(root, file!), 'utf8').includes(name!),
    )
    .map(([, file, name]) => `${file}: "${name}"`)

/** Everything that a page names and that is not there. @param read the text of another page, for its anchors */
export const missingIn = (
  page: { readonly path: string; readonly text: string },
  repository: { readonly root: string; readonly scripts: ReadonlySet<string>; readonly read: (path: string) => string },
): string[] => {
  const { path, text } = page
  const { root, scripts, read } = repository
  if (path.endsWith('.svg'))
    return [...text.matchAll(/src\/[\w./-]*/g)]
      .map(([name]) => name)
      .filter((name) => !existsSync(join(root, name)))
      .map((name) => `${path}: ${name}`)
  const paths = codeIn(text).filter(
    (code) =>
      (OWN_PATH.test(code) || /^[\w-]+(?:\/[\w-]+)+\.ts$/.test(code)) &&
      !code.includes('NAME') &&
      !existsSync(join(root, code)),
  )
  const links = [...withoutFences(text).matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, target]) => target!)
    .filter((target) => !/^[a-z]+:/.test(target) && brokenLink(root, path, text, target, read))
  const commands = [...text.matchAll(/npm run (?:--silent |-s )?([a-z][\w:-]*[\w])/g)]
    .map(([, script]) => script!)
    .filter((script) => !scripts.has(script))
    .map((script) => `npm run ${script}`)
  return [...paths, ...links, ...commands, ...missingTests(root, text)].map((name) => `${path}: ${name}`)
}

/** Folders of `src/` that a page does not name. */
export const unnamedFolders = (text: string, folders: readonly string[]): string[] =>
  folders.filter((folder) => !text.includes(`src/${folder}/`))
