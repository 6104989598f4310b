/** A configuration folder as `deputy check` reads it. */
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { expect } from 'vitest'
import { stringify } from 'yaml'
import type { Problem } from '../../src/config/problem.ts'
import type { Snapshot } from '../../src/config/snapshot.ts'
import { readConfiguration } from '../../src/daemon/configuration/configuration.ts'
import { aCompany } from './configuration.ts'

const shipped = {
  providers: new URL('../../providers', import.meta.url).pathname,
  policySchema: new URL('../../policies/access/schema.cedarschema', import.meta.url).pathname,
}

/** Text or bytes of a file, an object for its YAML, or where a link leads. */
export type Content = string | Buffer | Readonly<Record<string, unknown>> | object

/** Reads a company's folder with these files in it. With a problem there is no configuration. */
export const readFolder = async (
  files: Readonly<Record<string, Content>>,
): Promise<{ problems: readonly Problem[]; warnings: readonly Problem[]; snapshot: Snapshot | undefined }> => {
  const home = await mkdtemp(join(tmpdir(), 'deputy-check-'))
  try {
    for (const [path, content] of Object.entries({
      'deputy.yaml': 'environment: test\nnetwork: { allow_loopback: true }\n',
      ...aCompany({ issuer: 'https://idp.example' }),
      ...files,
    })) {
      await mkdir(dirname(join(home, path)), { recursive: true })
      if (typeof content === 'object' && 'linkTo' in content)
        await symlink(String(content['linkTo' as keyof typeof content]), join(home, path))
      else
        await writeFile(
          join(home, path),
          typeof content === 'string' || Buffer.isBuffer(content) ? content : stringify(content),
        )
    }
    const { problems, warnings, configuration } = await readConfiguration({ home, shipped, generation: 1 })
    expect(configuration === undefined).toBe(problems.length > 0)
    return { problems, warnings, snapshot: configuration?.snapshot }
  } finally {
    await rm(home, { recursive: true, force: true })
  }
}

/** @returns the problems of a company's folder with these files in it */
export const checkFolder = async (files: Readonly<Record<string, Content>>): Promise<readonly Problem[]> =>
  (await readFolder(files)).problems
