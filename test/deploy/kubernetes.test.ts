/** The Kubernetes manifests, without a cluster: held against the API's own schemas, and against what the daemon does. */
import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parse, parseAllDocuments } from 'yaml'
import { settingsSchema } from '../../src/config/settings.ts'
import { parseYamlFile } from '../../src/config/yaml-file.ts'
import { assertOfSchema, containersOf, typeErrors, type Manifest, type PodSpec } from '../support/kubernetes.ts'

const ROOT = resolve(import.meta.dirname, '../..')
const FOLDER = join(ROOT, 'deploy/kubernetes')

const files = readdirSync(FOLDER).filter((name) => name.endsWith('.yaml'))
const manifests = files.flatMap((file) =>
  parseAllDocuments(readFileSync(join(FOLDER, file), 'utf8')).map((document) => {
    expect(document.errors).toEqual([])
    return { file, manifest: document.toJS() as Manifest }
  }),
)
const pods = manifests.flatMap(({ file, manifest }) =>
  manifest.kind === 'Pod'
    ? [{ file, name: manifest.metadata.name, spec: manifest.spec as PodSpec }]
    : 'template' in (manifest.spec ?? {})
      ? [{ file, name: manifest.metadata.name, spec: manifest.spec.template.spec }]
      : [],
)
const settings = (() => {
  const text = manifests.find(({ manifest }) => manifest.kind === 'ConfigMap')!.manifest.data!['deputy.yaml']!
  const { values, problems } = parseYamlFile('deputy.yaml', text, settingsSchema)
  expect(problems).toEqual([])
  return values[0]!.value
})()

describe('the Kubernetes manifests', () => {
  test("are what the API's schemas say", async () => {
    for (const { file, manifest } of manifests) await assertOfSchema(manifest, file)
  })

  test('have no field that the API does not know', () => {
    const all = manifests.map(({ manifest }) => manifest)
    expect(typeErrors(all)).toBe('')
    // The check finds what it is for.
    const misspelt = JSON.parse(JSON.stringify(all.find(({ kind }) => kind === 'Deployment'))) as Manifest
    Object.assign(misspelt.spec.template.spec.containers[0]!, { livenesProbe: {} })
    expect(typeErrors([misspelt])).toContain('livenesProbe')
  })

  test('mount volumes that are there, and select what they label', () => {
    for (const { file, name, spec } of pods) {
      for (const container of containersOf(spec))
        for (const mount of container.volumeMounts ?? [])
          expect(
            spec.volumes.map((volume) => volume.name),
            `${file} ${name} ${container.name}`,
          ).toContain(mount.name)
    }
    for (const { manifest } of manifests) {
      if (!('template' in (manifest.spec ?? {}))) continue
      expect(manifest.spec.template.metadata.labels).toMatchObject(manifest.spec.selector.matchLabels!)
      expect(manifest.spec.template.metadata.labels['deputy.example.com/node']).toBe('true')
    }
    for (const { manifest } of manifests) {
      if (manifest.kind !== 'PodDisruptionBudget') continue
      expect(
        manifests.some(
          (other) =>
            'template' in (other.manifest.spec ?? {}) &&
            JSON.stringify(other.manifest.spec.selector.matchLabels) ===
              JSON.stringify(manifest.spec.selector.matchLabels),
        ),
      ).toBe(true)
    }
  })

  test('run without privileges, on a root file system that cannot be written, and hold no token of the API', () => {
    for (const { spec, name } of pods) {
      expect(spec.automountServiceAccountToken).toBe(false)
      for (const container of containersOf(spec)) {
        expect(container.securityContext, `${name} ${container.name}`).toMatchObject({
          readOnlyRootFilesystem: true,
          allowPrivilegeEscalation: false,
          capabilities: { drop: ['ALL'] },
          seccompProfile: { type: 'RuntimeDefault' },
        })
        // Giving away a folder of the machine is the one thing that needs root.
        if (container.name !== 'socket-folder') expect(container.securityContext.runAsNonRoot).toBe(true)
        expect(container.resources.limits.memory).toMatch(/Mi$/)
      }
    }
  })

  test('give the daemon longer to end than it takes, and start it with settings that hold there', () => {
    for (const { spec } of pods.filter(({ spec: each }) => containersOf(each).some(({ name }) => name === 'deputy'))) {
      expect(spec.terminationGracePeriodSeconds! * 1000).toBeGreaterThan(
        settings.limits.shutdown_delay + settings.limits.drain,
      )
      const deputy = containersOf(spec).find(({ name }) => name === 'deputy')!
      const mounted = (path: string): boolean =>
        deputy.volumeMounts!.some((mount) => mount.readOnly !== true && path.startsWith(`${mount.mountPath}/`))
      for (const path of [settings.state, settings.keys!, settings.listen.socket, settings.listen.admin])
        expect(mounted(path), path).toBe(true)
      const variables = (deputy as unknown as { env: { name: string }[] }).env.map(({ name }) => name)
      for (const [, name] of JSON.stringify(settings).matchAll(/"env":"(\w+)"/g)) expect(variables).toContain(name)
      const folders = spec.initContainers!.find(({ name }) => name === 'folders')!
      for (const path of [settings.state, settings.keys!]) expect(folders.command!.join(' ')).toContain(path)
      expect(spec.initContainers!.indexOf(folders)).toBe(0)
    }
  })

  test('ask for readiness by a command that the image has', () => {
    const dockerfile = readFileSync(join(ROOT, 'deploy/docker/Dockerfile'), 'utf8')
    const entry = JSON.parse(/^ENTRYPOINT (.*)$/m.exec(dockerfile)![1]!) as string[]
    for (const { spec } of pods)
      for (const { readinessProbe } of containersOf(spec))
        if (readinessProbe !== undefined) expect(readinessProbe.exec.command).toEqual([...entry, 'status'])
  })

  test('let servers show a token for this Deputy alone, and open the socket without being able to replace it', () => {
    for (const { spec } of pods) {
      const server = spec.containers.find(({ name }) => name === 'notes')
      if (server === undefined) continue
      expect(server.volumeMounts!.find(({ mountPath }) => mountPath === '/run/deputy')?.readOnly).toBe(true)
      const token = parse(JSON.stringify(spec.volumes.find(({ name }) => name === 'identity'))) as {
        projected: { sources: { serviceAccountToken: { audience: string; expirationSeconds: number } }[] }
      }
      expect(token.projected.sources[0]!.serviceAccountToken).toMatchObject({
        audience: settings.issuer,
        expirationSeconds: 3600,
      })
    }
  })
})
