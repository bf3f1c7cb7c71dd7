/* A C library that calls a network through a function pointer, and knows nothing of Python: see from_c.py. */

typedef void network(const double *x, double *y);

/* Euler steps of a damped pendulum, d angle/dt = speed, d speed/dt = force(angle, speed), with the force a network. */
void swing(network *force, double *state, int steps, double dt)
{
    for (int i = 0; i < steps; i++) {
        double acceleration;
        force(state, &acceleration);
        state[0] += dt * state[1];
        state[1] += dt * acceleration;
    }
}
