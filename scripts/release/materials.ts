/** The list of materials: what is in the daemon's bundle, by name, version and licence (CycloneDX). */
import { run, sourceEpoch } from './folders.ts'

/** The two members that differ from run to run are taken out. @param more what a package has in it beside the bundle */
export const billOfMaterials = (more: readonly object[] = []): string => {
  const bom = JSON.parse(
    run('npm', ['sbom', '--sbom-format', 'cyclonedx', '--omit', 'dev', '--package-lock-only']),
  ) as Record<string, unknown> & { metadata: Record<string, unknown>; components: object[] }
  const { serialNumber: _, ...rest } = bom
  const metadata = { ...bom.metadata, timestamp: new Date(Number(sourceEpoch()) * 1000).toISOString() }
  return `${JSON.stringify({ ...rest, metadata, components: [...bom.components, ...more] }, null, 2)}\n`
}
