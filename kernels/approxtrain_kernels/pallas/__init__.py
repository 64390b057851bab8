"""GPU kernels of the method `approx`, written in Pallas.

    choose     which form is the fastest for a layer on a device
    model      what each form costs there, and the rates of the devices that are known
    select     the k largest entries of each plane of dO
    gather     dW by fetching the patches they saw, in one kernel with the selection (`fused`) or after it
    tensor     the same on tensor cores
    wgrad      dW by the form that is chosen, and where that may run
    triton     the one file that knows the backend

`choose` and `model` import no jax.
"""
