/** Kubernetes manifests held against the API without a cluster: its schemas, and its types. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect } from 'vitest'

const ROOT = resolve(import.meta.dirname, '../..')

export interface Volume {
  name: string
}
export interface Container {
  name: string
  image: string
  volumeMounts?: { name: string; mountPath: string; readOnly?: boolean }[]
  securityContext: {
    capabilities: { drop: string[] }
    readOnlyRootFilesystem: boolean
    allowPrivilegeEscalation: boolean
    runAsNonRoot: boolean
  }
  command?: string[]
  readinessProbe?: { exec: { command: string[] } }
  resources: { limits: { memory: string } }
  restartPolicy?: string
}
export interface PodSpec {
  volumes: Volume[]
  containers: Container[]
  initContainers?: Container[]
  terminationGracePeriodSeconds?: number
  automountServiceAccountToken?: boolean
}
export interface Manifest {
  apiVersion: string
  kind: string
  metadata: { name: string; labels?: Record<string, string> }
  data?: Record<string, string>
  spec: PodSpec & {
    selector: { matchLabels?: Record<string, string> } & Record<string, string>
    template: { metadata: { labels: Record<string, string> }; spec: PodSpec }
  }
}

export const containersOf = (spec: PodSpec): Container[] => [...(spec.initContainers ?? []), ...spec.containers]
/** Where the API keeps its kinds: https://www.npmjs.com/package/kubernetes-models, made from the OpenAPI documents of Kubernetes. */
const moduleOf = ({ apiVersion }: Manifest): string => `kubernetes-models/${apiVersion === 'v1' ? 'v1' : apiVersion}`

/** Whether the types of the API take every field: a name that it does not know is an error there, and passes its schemas. */
export const typeErrors = (each: readonly Manifest[]): string => {
  const folder = mkdtempSync(join(ROOT, 'node_modules/.deputy-manifests-'))
  try {
    writeFileSync(
      join(folder, 'check.ts'),
      each
        .map(
          (manifest, at) =>
            `import type { I${manifest.kind} as Kind${at} } from '${moduleOf(manifest)}'\nexport const manifest${at} = ${JSON.stringify(manifest)} satisfies Kind${at}\n`,
        )
        .join(''),
    )
    return spawnSync(
      process.execPath,
      [
        join(ROOT, 'node_modules/typescript/bin/tsc'),
        '--noEmit',
        '--strict',
        '--skipLibCheck',
        '--module',
        'nodenext',
        '--moduleResolution',
        'nodenext',
        '--target',
        'es2023',
        '--ignoreConfig',
        'check.ts',
      ],
      { cwd: folder, encoding: 'utf8' },
    ).stdout
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** Whether a manifest is what the API's schema says. */
export const assertOfSchema = async (manifest: Manifest, where: string): Promise<void> => {
  const kinds = (await import(moduleOf(manifest))) as Record<string, new (value: Manifest) => { validate(): void }>
  expect(() => {
    new kinds[manifest.kind]!(manifest).validate()
  }, `${where} ${manifest.kind}`).not.toThrow()
}
