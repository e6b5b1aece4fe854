// Where the cluster is and who may use it: .lockstep/credentials.json, or the file that CREDENTIALS names.
const path = __ENV.CREDENTIALS || import.meta.resolve('../../.lockstep/credentials.json');

export const cluster = JSON.parse(open(path));

// system finds a payment system by its id.
export function system(id) {
  const found = cluster.systems.find((s) => s.id === id);
  if (!found) {
    throw new Error(`the cluster has no system ${id}`);
  }
  return found;
}

export const alpha = cluster.systems[0].id;

// beta is needed by the scripts that pay from one system to another.
export function beta() {
  if (cluster.systems.length < 2) {
    throw new Error('this script needs two systems: lockstep up --systems 2');
  }
  return cluster.systems[1].id;
}
